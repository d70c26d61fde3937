"""Options that several commands share, spelt and explained in one place; and options from a TOML file."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from crowdselect.engine.options import EngineOptions
from crowdselect.errors import OptionError
from crowdselect.pool.layouts import LAYOUTS
from crowdselect.selection.formats import FORMATS, TRAINERS
from crowdselect.textfile import not_utf8

LAYOUT_NAMES = " or ".join(", ".join(LAYOUTS).rsplit(", ", 1))
"""For help."""

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "integer": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "text": ((str,), "text"),
    "weights": ((str, dict), "a table of numbers"),
}

crowd_option = click.option(
    "--crowd",
    "crowd_path",
    metavar="FILE",
    help="Family and size of the models (TOML or JSON); else read off the names.",
)
reward_option = click.option(
    "--reward", metavar="COLUMN", help="The reward column; needed where there are several."
)
ties_option = click.option(
    "--ties",
    metavar="average|paper",
    default="average",
    show_default=True,
    help="How equal rewards count in stability; paper: in favour of the larger model.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a former result, once the new one is complete."
)
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Decides ties, draws and samples."
)


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


def bundle(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make one decorator of several.

    Args:
        decorators: Of click, in the order in which help shows them.

    Returns:
        A decorator.
    """

    def apply(command: Any) -> Any:  # noqa: ANN401  (a function or a click command)
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


config_option = click.option(
    "--config",
    metavar="FILE.toml",
    is_eager=True,
    callback=read_config,
    help="Options from a TOML file; flags win.",
)
pool_options = bundle(
    click.argument("pool_path", metavar="POOL"),
    click.option(
        "--layout",
        metavar="NAME",
        help=f"{LAYOUT_NAMES}; else recognised from the columns.",
    ),
    click.option("--rewards", metavar="FILE", help="Rewards from a second file: id, model, reward columns."),
    click.option("--limit", type=int, metavar="N", help="Only the first N instructions, in a seeded order."),
)


def rule_options(*, clusters: int) -> Callable[[Any], Any]:
    """The fields of `Options` but the weights, and the files beside them.

    Args:
        clusters: How many clusters there are unless the user says otherwise.

    Returns:
        A decorator for a command.
    """
    return bundle(
        config_option,
        click.option(
            "--budget", type=int, required=True, metavar="N", help="How many instructions to choose."
        ),
        click.option(
            "--reward",
            metavar="COLUMN",
            multiple=True,
            help="The reward column; needed where there are several. Several make an ensemble.",
        ),
        click.option(
            "--ensemble", metavar="mean-rank|mean-z", help="How several rewards become one score matrix."
        ),
        click.option(
            "--metrics",
            metavar="FILE",
            help="Further numbers per instruction (id and numeric columns); weigh them with --weights NAME=1.",
        ),
        crowd_option,
        ties_option,
        click.option(
            "--clusters",
            type=int,
            default=clusters,
            show_default=True,
            metavar="K",
            help="Number of clusters; 0 = none.",
        ),
        click.option("--cluster-by", metavar="COLUMN", help="Use a column of the pool as clusters."),
        click.option(
            "--embedder",
            metavar="NAME",
            default="lsa",
            show_default=True,
            help="lsa, minilm, file:VECTORS, column:NAME or a sentence-transformers model.",
        ),
        click.option(
            "--trust-remote-code",
            is_flag=True,
            help="Let the embedder's own code run; only if you have read it.",
        ),
        click.option(
            "--answer",
            metavar="HOW",
            default="best",
            show_default=True,
            help="best, random, topN-random or model:NAME.",
        ),
        click.option(
            "--allow-cut",
            is_flag=True,
            help="Let answers be taken that were cut (finish_reason); else they are no targets.",
        ),
        click.option(
            "--pairs", metavar="best-worst", help="Make preference pairs of the best and the worst answer."
        ),
        seed_option,
        click.option(
            "--min-rewards",
            type=int,
            default=2,
            show_default=True,
            help="Fewest rewards an instruction needs.",
        ),
        click.option(
            "--min-best-reward", type=float, help="Floor: the best answer's reward must be at least this."
        ),
        click.option("--min-best-quantile", type=float, help="Floor as a share of the pool, 0 to 1."),
        click.option(
            "--near-duplicates",
            type=float,
            metavar="COSINE",
            help="Pass over rows closer than this to a chosen one.",
        ),
        click.option(
            "--include",
            metavar="FILE",
            help="Choose only among these ids: one per line, or a table with a column id.",
        ),
        click.option("--exclude", metavar="FILE", help="Never choose these ids; a file likewise."),
        click.option(
            "--decontaminate",
            metavar="FILE",
            multiple=True,
            help="Never choose what shares text with these benchmark questions; may be given several times.",
        ),
        click.option("--no-cache", is_flag=True, help="Neither read nor keep vectors."),
    )


folder_options = bundle(
    click.option(
        "--format",
        "format_name",
        metavar="NAME",
        help=f"{', '.join(FORMATS).replace('messages', 'messages (default)')}.",
    ),
    click.option(
        "--file-type",
        metavar="jsonl|parquet",
        default="jsonl",
        show_default=True,
        help="Of the training file.",
    ),
    click.option("--for", "trainer", metavar="|".join(TRAINERS), help="Also write what that trainer needs."),
    click.option(
        "--license",
        "license_name",
        metavar="NAME",
        help="The data's licence, for the card.  [default: unknown]",
    ),
    click.option("--dry-run", is_flag=True, help="Choose and say what came out, but write nothing."),
    click.option(
        "--report", is_flag=True, help="Also make report.html, a page about the choice (extra: report)."
    ),
    overwrite_option,
    json_option,
    click.option("-o", "--output", metavar="DIR", help="The folder to write."),
)
"""Where and how a folder is written."""

weights_option = click.option(
    "--weights",
    type=Weights(),
    cls=WeightsOption,
    help="What counts how much; a negative number turns a metric round.",
)


def choice_options(*, clusters: int) -> Callable[[Any], Any]:
    """Every option of `select` but the weights: a baseline has the same.

    Args:
        clusters: How many clusters there are unless the user says otherwise.

    Returns:
        A decorator for a command.
    """
    return bundle(rule_options(clusters=clusters), folder_options)


engine_options = bundle(
    click.option(
        "--engine",
        default="local",
        metavar="local|ray",
        show_default=True,
        help="Where heavy steps run; ray: on a Ray cluster (extra: ray).",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="ray: the cluster; auto: the one of this machine.  [default: start one here]",
    ),
    click.option(
        "--workers", type=int, metavar="N", help="ray: how many actors.  [default: one per GPU or CPU]"
    ),
    click.option(
        "--gpus-per-worker", type=float, default=0.0, show_default=True, help="ray: GPUs of each actor."
    ),
)
"""For the commands with heavy steps."""


def taken(given: dict[str, Any]) -> EngineOptions:
    """Take the options of `engine_options` out of what click gives to a command.

    Example:
        >>> taken({"engine": "local", "ray_address": None, "workers": None, "gpus_per_worker": 0.0}).on_ray
        False
    """
    names = ("engine", "ray_address", "workers", "gpus_per_worker")
    return EngineOptions(**{name: given.pop(name) for name in names})
