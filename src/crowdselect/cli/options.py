"""Options that several commands share, spelt and explained in one place; options from a TOML file; their dataclasses."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import click

from crowdselect.cli.flags import Option, as_flags, named_options
from crowdselect.errors import OptionError, near_miss
from crowdselect.methods import METHODS, entry_named
from crowdselect.pool.layouts import LAYOUTS
from crowdselect.selection.former import FORMER, refuse_former
from crowdselect.selection.records import FORMATS
from crowdselect.selection.trainers import TRAINERS
from crowdselect.textfile import not_utf8

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FOR_HELP = f"Also write what that trainer needs: {', '.join(TRAINERS)}."
LAYOUT_NAMES = " or ".join(", ".join(LAYOUTS).rsplit(", ", 1))
"""For help."""


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

_Made = TypeVar("_Made", bound="DataclassInstance")

CROWD = "crowd"
"""The method that `select` takes unless told otherwise, and the only one that weighs metrics."""


def made(kind: type[_Made], given: Mapping[str, Any], **more: Any) -> _Made:  # noqa: ANN401  (click's values)
    """Make a command's dataclass of click's values: each field takes the option of its name.

    A field that is a dataclass itself is made of the same values. An option `--no-NAME` turns the field NAME off.
    Where nothing is given (None), a field keeps its default.

    Args:
        kind: The dataclass.
        given: Values by the names of the command's parameters.
        more: Values of `kind` that are no options.

    Raises:
        TypeError: An option belongs to no field: a slip of ours, which any test that runs the command finds.

    Example:
        >>> from crowdselect.engine.here import EngineOptions
        >>> made(EngineOptions, {"engine": "ray", "ray_address": None, "workers": 4, "gpus_per_worker": 0.0}).workers
        4
    """
    used: set[str] = set()
    out = _made(kind, given, used, more)
    if not used >= set(given):
        raise TypeError(f"{kind.__name__} has no field for: {', '.join(sorted(set(given) - used))}")
    return out


def _made(kind: type[_Made], given: Mapping[str, Any], used: set[str], more: Mapping[str, Any]) -> _Made:
    hints = get_type_hints(kind)
    values = dict(more)
    for part in fields(kind):
        off = f"no_{part.name}"
        if part.name in more:
            continue
        if is_dataclass(hints[part.name]):
            values[part.name] = _made(hints[part.name], given, used, {})
        elif part.name in given:
            used.add(part.name)
            has_default = part.default is not MISSING or part.default_factory is not MISSING
            if given[part.name] is not None or not has_default:
                values[part.name] = given[part.name]
        elif off in given:
            used.add(off)
            values[part.name] = not given[off]
    return kind(**values)


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


option = partial(click.option, cls=Option)
"""An option of ours; `section` says where it stands in help."""


def section(name: str) -> Callable[..., Callable[[Any], Any]]:
    """Make options of one section of help."""
    return partial(option, section=name)


def _default_weights() -> str:
    from crowdselect.numeric.ranks import DEFAULT_WEIGHTS

    return ",".join(f"{name}={weight:g}" for name, weight in DEFAULT_WEIGHTS.items() if weight)


class WeightsOption(Option):
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


class ColumnNames(click.ParamType[tuple[tuple[str, str], ...]]):
    """`WHAT=COLUMN,...`, or a table in a configuration file."""

    name = "columns"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "WHAT=COLUMN,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a table from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[tuple[str, str], ...]:
        """Read which column is what; which there are is checked where the pool is opened."""
        if isinstance(value, tuple):
            return value
        if isinstance(value, dict):
            return tuple((str(what), str(name)) for what, name in value.items())
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not pairs or not all(what.strip() and name.strip() for what, _, name in pairs):
            self.fail(f"{value!r} is not of the form instruction=COLUMN,model=COLUMN", param, ctx)
        return tuple((what.strip(), name.strip()) for what, _, name in pairs)


@dataclass(frozen=True, slots=True)
class Share:
    """A budget that is a share of the pool."""

    percent: float
    """Above 0, at most 100."""

    def of(self, instructions: int) -> int:
        """Give the budget, rounded down, at least 1.

        Example:
            >>> Share(10).of(1005)
            100
        """
        return max(int(instructions * self.percent / 100), 1)


class Budget(click.ParamType[int | Share]):
    """`N`, or `P%` of the pool's instructions."""

    name = "budget"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "N|P%"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a number from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | Share:
        """Read a budget; whether the pool has so many rows is checked later."""
        if isinstance(value, int | Share):
            return value
        text = str(value).strip()
        try:
            if not text.endswith("%"):
                return int(text)
            percent = float(text[:-1])
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor a share such as 10%", param, ctx)
        if not 0 < percent <= 100:
            self.fail(f"{value!r} is not above 0% and at most 100%", param, ctx)
        return Share(percent)


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


def read_method(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Make the values that belong to a method the defaults of a command; a callback of click.

    Args:
        ctx: Of the command.
        value: `NAME` or `NAME:ARG`.

    Returns:
        The same.

    Raises:
        OptionError: There is no such method.
    """
    own = entry_named(value).options
    if value != CROWD:
        own = {"clusters": 0, **own}
    ctx.default_map = {**own, **(ctx.default_map or {})}
    return value


def refuse(ctx: click.Context, param: click.Parameter, value: float | None) -> None:
    """Say what to type instead of an option that is no more; a callback of click.

    Raises:
        OptionError: It is given.
    """
    try:
        refuse_former({str(param.name): value})
    except OptionError as error:
        raise OptionError(as_flags(str(error), options=named_options(ctx.command))) from None


_pool = section("Pool")
_counts = section("What counts")
_student = section("Student")
_spread = section("Spread")
_method = section("Method")
_answers = section("Answers")
_output = section("Output")
_place = section("Where it runs")

config_option = option(
    "--config",
    metavar="FILE.toml",
    is_eager=True,
    callback=read_config,
    help="Options from a TOML file; flags win.",
)
budget_option = option(
    "--budget",
    type=Budget(),
    required=True,
    help="How many instructions to choose, or a share of the pool's, such as 10%.",
)
weights_option = option(
    "--weights",
    type=Weights(),
    cls=WeightsOption,
    help="How much each metric counts; a negative weight reverses it.",
)
seed_option = option(
    "--seed", type=int, default=0, show_default=True, help="Decides ties, draws and samples."
)
crowd_option = _pool(
    "--crowd",
    metavar="FILE",
    help="Family and size of the models (TOML or JSON); else read off the names.",
)
reward_option = _counts(
    "--reward", metavar="COLUMN", help="The reward column; needed where several may be meant."
)
ties_option = _counts(
    "--ties",
    metavar="average|paper",
    default="average",
    show_default=True,
    help="How equal rewards count in stability; paper: in favour of the larger model.",
)
json_option = _output("--json", "as_json", is_flag=True, help="Print JSON instead.")
overwrite_option = _output(
    "--overwrite", is_flag=True, help="Replace a former result, once the new one is complete."
)


def dry_run_option(help: str) -> Callable[[Any], Any]:  # noqa: A002  (click's word)
    """Say what would be done, and end; `--plan` is what it was called in 0.1.0."""
    return bundle(
        option("--dry-run", is_flag=True, help=help),
        option("--plan", "dry_run", is_flag=True, hidden=True),
    )


cache_option = _place("--no-cache", is_flag=True, help="Neither read nor keep vectors.")
layout_option = _pool("--layout", metavar="NAME", help=f"{LAYOUT_NAMES}; else recognised from the columns.")
limit_option = _pool("--limit", type=int, metavar="N", help="A seeded random sample of N instructions.")
pool_argument = click.argument("pool", metavar="POOL")
_columns_option = _pool(
    "--columns", type=ColumnNames(), help="Which column is what, where names differ: instruction=task."
)
_part_options = bundle(
    _pool("--subset", metavar="NAME", help="Which configuration of a data set; else the default one."),
    _pool("--split", metavar="NAME", help="Which split of a data set; else train."),
)
_SKIP = "--skip-invalid"
skip_option = option(_SKIP, is_flag=True, help="Leave malformed rows out, counted, instead of ending.")
_skip_pool_rows = _pool(
    _SKIP, is_flag=True, help="Leave malformed rows out, with a reason, instead of ending."
)
instruction_options = bundle(_columns_option, _part_options, _skip_pool_rows)
"""How a file of instructions is read."""
read_options = bundle(
    layout_option,
    _columns_option,
    _pool("--model", metavar="NAME", help="The model that gave all answers, where no column says so."),
    _pool("--model-from", metavar="file|folder", help="The model is the name of the file, or of its folder."),
    _part_options,
    _pool("--filter", metavar="NAME", help="Which filter of lm-evaluation-harness."),
    _pool(
        "--missing", type=float, multiple=True, metavar="NUMBER", help="A value that stands for no reward."
    ),
    _skip_pool_rows,
    _pool(
        "--reasoning",
        metavar="keep|drop",
        default="keep",
        show_default=True,
        help="Whether what is written holds the reasoning before an answer.",
    ),
)
"""How a pool is read: the fields of `crowdselect.pool.howread.HowRead`."""
pool_source_options = bundle(
    read_options,
    _pool("--rewards", metavar="FILE", help="Rewards from a second file: id, model, reward columns."),
    limit_option,
    crowd_option,
)
pool_options = bundle(pool_argument, pool_source_options)
student_options = bundle(
    _student(
        "--student",
        metavar="NAME",
        help="The model to be trained: of the pool, or of --student-answers. No part of the crowd, never trained on.",
    ),
    _student(
        "--student-answers",
        metavar="POOL",
        help="A second pool with the student's own answers, joined by id, with the same reward column.",
    ),
    _student(
        "--student-column",
        metavar="COLUMN",
        help="The student's success on each instruction, 0 to 1, measured elsewhere; of the pool or of --metrics.",
    ),
    _student(
        "--good-above",
        type=float,
        metavar="REWARD",
        help="An answer is good above this reward.  [default: the cut that splits all rewards best in two]",
    ),
)
"""The model that is to be trained, and what counts as good."""
pool_place_option = option(
    "--pool", metavar="POOL", help="Where the pool is now; the manifest says where it was."
)
count_options = bundle(
    _counts(
        "--reward",
        metavar="COLUMN",
        multiple=True,
        help="The reward column; needed where several may be meant. Several make an ensemble.",
    ),
    _counts(
        "--ensemble", metavar="mean-rank|mean-z|min|lcb", help="How several rewards become one score matrix."
    ),
    _counts(
        "--metrics",
        metavar="FILE",
        help="Further numbers per instruction (id and numeric columns), for --weights, --keep and --cluster-by.",
    ),
    ties_option,
    student_options,
    _counts(
        "--keep",
        metavar="NAME=LOW..HIGH",
        multiple=True,
        help="Only rows whose number lies in this band, such as best_reward=10%.. or pass_rate=0.1..0.9; may be given several "
        "times. Without one of rewards, two rewards are needed.",
    ),
    *(
        option(f"--{name.replace('_', '-')}", type=float, hidden=True, expose_value=False, callback=refuse)
        for name in FORMER
    ),
    _counts(
        "--include",
        metavar="FILE",
        help="Choose only among these ids: one per line, or a table with a column id.",
    ),
    _counts("--exclude", metavar="FILE", help="Never choose these ids; a file likewise."),
    _counts(
        "--decontaminate",
        metavar="FILE",
        multiple=True,
        help="Never choose what shares text with these benchmark questions; may be given several times.",
    ),
    _counts(
        "--decontaminate-ngram",
        type=int,
        default=13,
        show_default=True,
        metavar="N",
        help="How many words in a row, shared with a question, count as contamination.",
    ),
)
"""Which instructions may be chosen, and by what."""


def spread_options(*, default: str = "10") -> Callable[[Any], Any]:
    """Clusters, and what is too near.

    Args:
        default: What help says of the number of clusters where none is given.
    """
    return bundle(
        _spread(
            "--clusters",
            type=int,
            default=10,
            metavar="K",
            help=f"Number of clusters; 0 = none.  [default: {default}]",
        ),
        _spread(
            "--cluster-by",
            metavar="COLUMN|NAME:B",
            help="Use a column of the pool as clusters; or B bins of equal count of a number, such as difficulty:5.",
        ),
        _spread(
            "--quota",
            metavar="COLUMN=RULE",
            help="How many rows each value of a column gets: equal, proportional, or shares such as source=a:0.5,b:0.3,rest:0.2; "
            "clusters count within each value.",
        ),
        _spread(
            "--embedder",
            metavar="NAME",
            default="lsa",
            show_default=True,
            help="lsa, minilm, file:VECTORS, column:NAME, hidden:MODEL or a sentence-transformers model.",
        ),
        _spread(
            "--trust-remote-code",
            is_flag=True,
            help="Let the embedder's own code run; only if you have read it.",
        ),
        _spread(
            "--near-duplicates",
            type=float,
            metavar="COSINE",
            help="Pass over rows closer than this to a chosen one.",
        ),
    )


answer_options = bundle(
    _answers(
        "--answer",
        metavar="HOW",
        default="best",
        show_default=True,
        help="best, random, topN-random, model:NAME, or fits:MODEL[,SHARE]: of the best third by reward (or SHARE) the one that the "
        "student MODEL finds most likely. Of several samples of a model, one of them.",
    ),
    _answers(
        "--answers-per-row",
        type=int,
        default=1,
        show_default=True,
        metavar="K",
        help="Up to K different answers of each chosen instruction, best first.",
    ),
    _answers(
        "--allow-cut",
        is_flag=True,
        help="Allow answers that were cut (finish_reason, or a <think> without an end) as training targets.",
    ),
    _answers(
        "--pairs",
        metavar="best-worst|within-model|best-student",
        help="Make preference pairs: the best and the worst answer, the two samples of one model that are furthest apart, or "
        "the best and the student's own.",
    ),
)
"""What of a chosen row is trained on."""


def method_options() -> Callable[[Any], Any]:
    """Every setting of a method in the registry, as an option."""
    owners: dict[str, list[str]] = {}
    settings = {}
    for name, entry in METHODS.items():
        for setting in entry.settings:
            owners.setdefault(setting.name, []).append(name)
            settings[setting.name] = setting
    for name in ("max_length", "batch_tokens", "device"):
        owners[name].append("--answer fits")
    return bundle(
        _method("--seeds", type=int, metavar="N", help=_SEEDS),
        *(
            _method(
                f"--{name.replace('_', '-')}",
                type=setting.kind,
                metavar=setting.form,
                help=f"{', '.join(owners[name])}: {setting.help}"
                + ("" if setting.default is None else f"  [default: {setting.default}]"),
            )
            for name, setting in settings.items()
        ),
    )


_SEEDS = "random, teachable, easy: make DIR/seed-S for N seeds S, from --seed on; the first is shown."


def method_option(help: str) -> Callable[[Any], Any]:  # noqa: A002  (click's word)
    """A method of the registry, which brings defaults of other options with it."""
    return option(
        "--method",
        metavar="NAME[:ARG]",
        default=CROWD,
        show_default=True,
        is_eager=True,
        callback=read_method,
        help=help,
    )


folder_options = bundle(
    _output(
        "--format",
        metavar="NAME",
        help=f"{', '.join(FORMATS).replace('messages', 'messages (default)')}.",
    ),
    _output(
        "--file-type",
        metavar="jsonl|parquet",
        default="jsonl",
        show_default=True,
        help="Of the training file.",
    ),
    _output("--for", "trainer", metavar="TRAINER", help=FOR_HELP),
    _output(
        "--reference",
        metavar="COLUMN",
        help="rl: the column of the right answer; else reference, answer, target, ground_truth or solution.",
    ),
    _output(
        "--source",
        metavar="COLUMN",
        help="rl: the column that picks the trainer's reward function; custom: write one for verl.",
    ),
    _output("--pass-rate", metavar="MODEL", help="rl: whose pass rate is written; else the crowd's."),
    _output(
        "--license",
        metavar="NAME",
        help="The data's licence, for the card.  [default: unknown]",
    ),
    _output("--report", is_flag=True, help="Also make report.html, a page about the choice (extra: report)."),
    _output(
        "--dry-run",
        is_flag=True,
        help="Write nothing: choose and show the result; where a model is run (ifd, an embedder, fits), load none and say "
        "what it would compute.",
    ),
    overwrite_option,
    json_option,
)
"""How a folder is written."""

engine_options = bundle(
    _place(
        "--engine",
        default="local",
        metavar="local|ray",
        show_default=True,
        help="Where heavy steps run; ray: on a Ray cluster (extra: ray).",
    ),
    _place(
        "--ray-address",
        metavar="ADDRESS",
        help="ray: the cluster; auto: the one of this machine.  [default: start one here]",
    ),
    _place("--workers", type=int, metavar="N", help="ray: how many actors.  [default: one per GPU or CPU]"),
    _place("--gpus-per-worker", type=float, default=0.0, show_default=True, help="ray: GPUs of each actor."),
)
"""For the commands with heavy steps."""
