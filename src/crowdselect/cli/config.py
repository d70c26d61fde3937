"""Options from a TOML file: its values become a command's defaults."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from crowdselect.cli.flags import Option
from crowdselect.errors import OptionError, near_miss
from crowdselect.pool.howread import MISSING_WORDS
from crowdselect.textfile import not_utf8


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_table(value: object, holds: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(holds, value.values()))


_KINDS: dict[str, tuple[Callable[[object], bool], str, str]] = {
    "integer": (_is_whole, "a whole number", "whole numbers"),
    "float": (_is_number, "a number", "numbers"),
    "missing": (
        lambda value: _is_number(value) or value in MISSING_WORDS,
        f"a number, {' or '.join(MISSING_WORDS)}",
        f"numbers, {' or '.join(MISSING_WORDS)}",
    ),
    "boolean": (lambda value: isinstance(value, bool), "true or false", "true or false"),
    "text": (_is_text, "text without a null character", "texts without a null character"),
    "weights": (lambda v: _is_text(v) or _is_table(v, _is_number), "a table of numbers", "tables"),
    "columns": (lambda v: _is_text(v) or _is_table(v, _is_text), "a table of column names", "tables"),
    "budget": (
        lambda value: _is_whole(value) or (_is_text(value) and str(value).endswith("%")),
        "a whole number, or a share such as 10%",
        "budgets",
    ),
}
"""By the names of click's types: whether a TOML file's value is of that kind, and what one and several are called."""

TWO_WAYS = "`clusters` and `cluster_by` both say what the clusters are; give one of them"


def read_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Make a TOML file's values the defaults of a command, so that flags win; a callback of click.

    Args:
        ctx: Of the command.
        value: The file; None = none.

    Returns:
        The file.

    Raises:
        OptionError: There is no such file, it is no TOML, names an option that the command does not have, or
            gives one a value of another type; or it says in two ways what the clusters are.
    """
    if value is None:
        return None
    known = {
        param.flag.removeprefix("--"): param
        for param in ctx.command.params
        if isinstance(param, Option) and param.name != "config"
    }
    found: dict[str, Any] = {}
    for written, setting in _settings(value).items():
        name = written.replace("_", "-")
        if name not in known:
            shown = sorted(name for name, param in known.items() if not param.hidden)
            hint = near_miss(name, shown) or f"; the options are: {', '.join(shown)}"
            raise OptionError(f"{value}: unknown option {written!r}{hint}")
        if known[name].name in found:
            raise OptionError(f"{value}: {name!r} is given twice, with - and with _; keep one")
        _check_kind(setting, known[name], where=f"{value}: {written}")
        alone = known[name].multiple and not isinstance(setting, list)
        found[str(known[name].name)] = [setting] if alone else setting
    if {"clusters", "cluster_by"} <= found.keys():
        raise OptionError(f"{value}: {TWO_WAYS}")
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
    fits, one, several = _KINDS[option.type.name]
    if option.multiple and isinstance(setting, list):
        if not all(map(fits, setting)):
            raise OptionError(f"{where} is {setting!r}; wanted a list of {several}")
    elif not fits(setting):
        raise OptionError(
            f"{where} is {setting!r}; wanted {one}{f', or a list of {several}' * option.multiple}"
        )
