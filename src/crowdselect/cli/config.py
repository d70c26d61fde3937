"""Options of a command from a TOML file, and weights as text or as a table."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from crowdselect.errors import OptionError
from crowdselect.textfile import not_utf8

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "text": ((str,), "text"),
    "weights": ((str, dict), "a table of numbers"),
}


def _default_weights() -> str:
    from crowdselect.numeric.ranks import DEFAULT_WEIGHTS

    return ",".join(f"{name}={weight:g}" for name, weight in DEFAULT_WEIGHTS.items() if weight)


class WeightsOption(click.Option):
    """Its help reads the metrics' own weights, when it is asked for: help of other commands loads no NumPy."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Add the default to the help."""
        record = super().get_help_record(ctx)
        return record and (record[0], f"{record[1]}  [default: {_default_weights()}]")


class Weights(click.ParamType[dict[str, float]]):
    """`NAME=NUMBER,...`, or a table in a configuration file."""

    name = "weights"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "NAME=NUMBER,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a table from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        """Read weights; which names there are is checked by `Options`."""
        pairs = value.items() if isinstance(value, dict) else (part.split("=") for part in value.split(","))
        weights: dict[str, float] = {}
        for pair in pairs:
            try:
                name, number = pair
                weight = float(number)
            except (TypeError, ValueError):
                self.fail(f"{value!r} is not of the form {_default_weights()}", param, ctx)
            if name.strip() in weights:
                self.fail(f"{name.strip()!r} is named twice in {value!r}", param, ctx)
            weights[name.strip()] = weight
        return weights


def read_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Make a TOML file's values the defaults of a command, so that flags win; a callback of click.

    Args:
        ctx: Of the command.
        value: The file; None = none.

    Returns:
        The file.

    Raises:
        OptionError: There is no such file, it is no TOML, names an option that the command does not have, or
            gives one a value of another type.
    """
    if value is None:
        return None
    known = {
        param.opts[-1].removeprefix("--"): param
        for param in ctx.command.params
        if isinstance(param, click.Option) and param.opts[-1] not in {"--config", "--help"}
    }
    found: dict[str, Any] = {}
    for written, setting in _settings(value).items():
        name = written.replace("_", "-")
        if name not in known:
            raise OptionError(
                f"{value}: unknown option {written!r}; the options are: {', '.join(sorted(known))}"
            )
        if known[name].name in found:
            raise OptionError(f"{value}: {name!r} is given twice, with - and with _; keep one")
        if name == "reward" and known[name].multiple and isinstance(setting, str):
            setting = [setting]  # noqa: PLW2901  (one column is the usual case)
        _check_kind(setting, known[name], where=f"{value}: {written}")
        found[str(known[name].name)] = setting
    ctx.default_map = {**(ctx.default_map or {}), **found}
    return value


def _settings(path: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise OptionError(f"{path}: no such file; wanted a TOML file of options") from None
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: not a TOML file of options: {not_utf8(error)}") from error
    except (tomllib.TOMLDecodeError, IsADirectoryError, RecursionError) as error:
        raise OptionError(f"{path}: not a TOML file of options: {error}") from error


def _check_kind(setting: object, option: click.Option, *, where: str) -> None:
    """Refuse what click would bend into shape: 10.5 or true as a whole number, a list as text."""
    if option.multiple:
        settings = setting if isinstance(setting, list) else [None]
        if not all(isinstance(part, str) and "\0" not in part for part in settings):
            raise OptionError(f"{where} is {setting!r}; wanted a list of texts without a null character")
        return
    types, wanted = _KINDS[option.type.name]
    fits = isinstance(setting, types) and (bool in types or not isinstance(setting, bool))
    if fits and isinstance(setting, dict):
        fits = all(isinstance(v, int | float) and not isinstance(v, bool) for v in setting.values())
    if not fits:
        raise OptionError(f"{where} is {setting!r}; wanted {wanted}")
    if isinstance(setting, str) and "\0" in setting:
        raise OptionError(f"{where} is {setting!r}; wanted text without a null character")
