"""Options that several commands share, spelt and explained in one place; the dataclasses made of them."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import click

from crowdselect.cli.config import read_config
from crowdselect.cli.flags import Option, as_flags, named_options
from crowdselect.cli.values import Budget, ColumnNames, Missing, Weights, WeightsOption
from crowdselect.errors import OptionError
from crowdselect.pool.layouts import LAYOUTS
from crowdselect.selection.former import FORMER, refuse_former
from crowdselect.selection.records import FORMATS
from crowdselect.selection.trainers import TRAINERS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FOR_HELP = f"Also write what that trainer needs: {', '.join(TRAINERS)}."
LAYOUT_NAMES = " or ".join(", ".join(LAYOUTS).rsplit(", ", 1))
"""For help."""

_Made = TypeVar("_Made", bound="DataclassInstance")


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
    help="Family and size of the models (TOML or JSON); by default read off their names.",
)
reward_option = _counts("--reward", metavar="COLUMN", help="The reward column; needed if there are several.")
ties_option = _counts(
    "--ties",
    metavar="average|paper",
    default="average",
    show_default=True,
    help="How equal rewards count in stability; paper: in favour of the larger model.",
)
json_option = _output("--json", "as_json", is_flag=True, help="Print JSON instead.")
overwrite_option = _output(
    "--overwrite", is_flag=True, help="Replace an earlier result once the new one is complete."
)


def dry_run_option(help: str) -> Callable[[Any], Any]:  # noqa: A002  (click's word)
    """Say what would be done, and end; `--plan` is what it was called in 0.1.0."""
    return bundle(
        option("--dry-run", is_flag=True, help=help),
        option("--plan", "dry_run", is_flag=True, hidden=True),
    )


cache_option = _place("--no-cache", is_flag=True, help="Neither read nor write cached vectors.")
layout_option = _pool(
    "--layout", metavar="NAME", help=f"{LAYOUT_NAMES}; by default recognised from the columns."
)
limit_option = _pool("--limit", type=int, metavar="N", help="A seeded random sample of N instructions.")
pool_argument = click.argument("pool", metavar="POOL")
_columns_option = _pool(
    "--columns",
    type=ColumnNames(),
    help="Which column holds what, where names differ: instruction=task, or data.task inside an object.",
)
_part_options = bundle(
    _pool(
        "--subset",
        metavar="NAME",
        help="The configuration of a data set to read; by default its own default.",
    ),
    _pool("--split", metavar="NAME", help="The split of a data set to read; by default train."),
)
_SKIP = "--skip-invalid"
skip_option = option(
    _SKIP, is_flag=True, help="Leave malformed rows out and count them, instead of stopping."
)
_skip_pool_rows = _pool(
    _SKIP, is_flag=True, help="Leave malformed rows out, with a reason, instead of stopping."
)
instruction_options = bundle(_columns_option, _part_options, _skip_pool_rows)
"""How a file of instructions is read."""
read_options = bundle(
    layout_option,
    _columns_option,
    _pool("--model", metavar="NAME", help="The model that gave all answers, if no column names it."),
    _pool(
        "--model-from",
        metavar="file|folder[:N]",
        help="Name the model after the file, or after the folder that differs (or the Nth below the path).",
    ),
    _part_options,
    _pool("--filter", metavar="NAME", help="The filter of lm-evaluation-harness whose scores are read."),
    _pool(
        "--missing",
        type=Missing(),
        multiple=True,
        metavar="NUMBER|empty|error",
        help="A value that means that there is no reward, such as -1; empty: an answer without a text has none; error: nor has one "
        "beside which a column such as error is filled.",
    ),
    _skip_pool_rows,
    _pool(
        "--reasoning",
        metavar="keep|drop",
        default="keep",
        show_default=True,
        help="Keep or drop the reasoning before an answer in what is written.",
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
        help="The model to be trained, from the pool or from --student-answers; not part of the crowd, and its answers are never trained on.",
    ),
    _student(
        "--student-answers",
        metavar="POOL",
        help="A second pool with the student's own answers, joined by id, with the same reward column.",
    ),
    _student(
        "--student-column",
        metavar="COLUMN",
        help="A column, of the pool or of --metrics, with the student's success on each instruction, 0 to 1, measured elsewhere.",
    ),
    _student(
        "--good-above",
        type=float,
        metavar="REWARD",
        help="A reward above this counts as good.  [default: the cut that best splits all rewards in two]",
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
        help="The reward column; needed if there are several. Given several times, they make an ensemble.",
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
        "times. A row needs two rewards, unless a band of rewards is given.",
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
    _counts("--exclude", metavar="FILE", help="Never choose these ids; a file like that of --include."),
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
            help="Use a column of the pool as clusters, or B bins of a number with equally many rows, such as difficulty:5.",
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
            help="Run code that comes with the embedder; only if you trust it.",
        ),
        _spread(
            "--near-duplicates",
            type=float,
            metavar="COSINE",
            help="Skip rows closer than this to a chosen one.",
        ),
    )


answer_options = bundle(
    _answers(
        "--answer",
        metavar="HOW",
        default="best",
        show_default=True,
        help="best, random, topN-random, model:NAME, or fits:MODEL[,SHARE]: of the best third by reward (or SHARE) the one that the "
        "student MODEL finds most likely. If a model has several samples, one of them is taken.",
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
        help="Type of the training file.",
    ),
    _output("--for", "trainer", metavar="TRAINER", help=FOR_HELP),
    _output(
        "--reference",
        metavar="COLUMN",
        help="rl: the column with the right answer; by default reference, answer, target, ground_truth or solution.",
    ),
    _output(
        "--source",
        metavar="COLUMN",
        help="rl: the column that picks the trainer's reward function; custom: write one for verl.",
    ),
    _output(
        "--pass-rate",
        metavar="MODEL",
        help="rl: the model whose pass rate is written; by default the crowd's.",
    ),
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
    _place("--workers", type=int, metavar="N", help="ray: number of actors.  [default: one per GPU or CPU]"),
    _place("--gpus-per-worker", type=float, default=0.0, show_default=True, help="ray: GPUs of each actor."),
)
"""For the commands with heavy steps."""
