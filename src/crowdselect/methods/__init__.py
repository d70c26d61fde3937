"""Ways to score rows, one per file: the function that builds the method, with its source, arguments and errors.

    from crowdselect.methods import method_named
    select(pool, Options(budget=1000, clusters=0), method=method_named("length:answer"))

A new method is a file here and a record in `METHODS`, which `select --method NAME[:ARG]`, recipes and the help read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from crowdselect.errors import OptionError, near_miss

if TYPE_CHECKING:
    from collections.abc import Callable

    from crowdselect.selection.methods import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What follows the colon of `NAME:ARG`.

    Example:
        >>> METHODS["deita"].argument.form
        'COMPLEXITY,QUALITY'
    """

    fills: tuple[str, ...]
    """The arguments of the method's function that it fills, in order; several values are separated by commas."""
    form: str
    """Its form in the help: a word in capitals, or values separated by `|`."""
    help: str
    """What it is, in one line."""
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Another argument of a method's function; on the command line an option of its own.

    Example:
        >>> [setting.name for setting in METHODS["length"].settings]
        ['unit', 'direction']
    """

    name: str
    """The argument's name; `max_length` is `--max-length` on the command line."""
    kind: type[int] | type[str] = str
    default: int | str | None = None
    """None = not passed, and the function does without."""
    form: str
    """The form of its value in the help."""
    help: str
    """What it is, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A method in the registry; its module is loaded only when the method is built, so that help is fast.

    Example:
        >>> METHODS["length"](of="answer").settings["of"]
        'answer'
    """

    make: "str | Callable[..., Method]"
    """The function that builds it, or that function's location in this package: `module:function`."""
    help: str
    """What it chooses, in one line."""
    argument: Argument | None = None
    """What may follow its name; None = nothing."""
    settings: tuple[Setting, ...] = ()
    """Its other arguments."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Values of `Options` that belong to it: a command uses them where the user sets none."""
    drawn: bool = False
    """It is random: selections that differ only in their seed count as several draws of one selection."""
    control: bool = False
    """Its draws look at nothing: they are what other selections are compared with."""
    student: bool = False
    """It chooses for a student, which has to be named or marked."""
    runs_a_model: bool = False
    """It runs a local model on the rows: a dry run is useful, and workers of a cluster share its `parts` and `device`."""
    source: str = ""
    """The paper that it comes from."""
    purpose: str = ""
    """What it is for, in a few words; like the next two for docs/methods.md."""
    assumes: str = ""
    """What has to be true for it to help."""
    cost: str = ""
    """What has to be run for 100,000 rows, beside the pool's answers and their rewards."""
    evidence: str = "it has not been tried in the proving ground (docs/evidence.md)"
    """What the proving ground found about it without a student, in one line, with the place to read more."""

    def form(self, name: str) -> str:
        """Return the form of its name for the help.

        Example:
            >>> METHODS["length"].form("length"), METHODS["tags"].form("tags")
            ('length[:instruction|answer]', 'tags:COLUMN')
        """
        if self.argument is None:
            return name
        suffix = f":{self.argument.form}"
        return f"{name}{suffix if self.argument.required else f'[{suffix}]'}"

    def __call__(self, **arguments: Any) -> "Method":  # noqa: ANN401  (those of the function)
        """Build the method."""
        if not isinstance(self.make, str):
            return self.make(**arguments)
        module, name = self.make.split(":")
        method: Method = getattr(import_module(f"{__name__}.{module}"), name)(**arguments)
        return method


# ── checks shared by methods ──────────────────────────────────────────────────────────────────────


Direction = Literal["up", "down"]
"""The highest first, or the lowest."""


def check_known(name: str, value: str, kind: Any) -> None:  # noqa: ANN401  (a Literal)
    """Refuse a value that is not among a `Literal`'s.

    Raises:
        OptionError: It is not.
    """
    if value not in get_args(kind):
        raise OptionError(f"`{name}={value!r}` is unknown; choose one of: {', '.join(get_args(kind))}")


def sign(direction: str) -> float:
    """Return the factor that turns a number into a score whose highest is chosen first.

    Raises:
        OptionError: The direction is unknown.

    Example:
        >>> sign("down")
        -1.0
    """
    check_known("direction", direction, Direction)
    return 1.0 if direction == "up" else -1.0


# ── the registry ─────────────────────────────────────────────────────────────────────────────────────


def _crowd() -> "Method":
    from crowdselect.selection.methods import CROWD

    return CROWD


METHODS: dict[str, Entry] = {
    "crowd": Entry(
        make=_crowd,
        help="Weighted ranks of the crowd's metrics, over clusters.",
        purpose="the paper's choice, to reproduce it",
        assumes="what sets the crowd's models apart is worth learning; `stability` needs families of known sizes",
        cost="nothing",
        source="CrowdSelect, Li et al. 2025, arXiv 2503.01836",
        evidence="in the proving ground the paper's weights were better than a random choice in none of six worlds and worse in three; name "
        "your student, and its way is better (docs/evidence.md)",
    ),
    "random": Entry(
        make="random_choice:random_choice",
        help="Random rows; with clusters, equally many from each.",
        purpose="what every other choice is compared with",
        assumes="nothing",
        cost="nothing; it needs no rewards",
        drawn=True,
        control=True,
        evidence="in the proving ground no method without a student was better in all four worlds (docs/evidence.md)",
    ),
    "teachable": Entry(
        make="teachable:teachable",
        help="What a student gets wrong and models like it get right.",
        purpose="a student that is named",
        assumes="rewards tell good answers from others, and models that do as the student does predict it",
        cost="100,000 answers of the student, and their rewards",
        argument=Argument(
            fills=("form",),
            form="plain",
            help="plain: what the crowd gets right, like the student or not.",
            required=False,
        ),
        drawn=True,
        student=True,
        evidence="in the proving ground it was better than a random choice in four of six worlds and worse in none, but for a student "
        "as good as the crowd's best, which gained nothing (docs/evidence.md)",
    ),
    "easy": Entry(
        make="easy:easy",
        help="What most of the crowd gets right, for a weak student.",
        purpose="a weak student that is not named",
        assumes="rewards tell good answers from others",
        cost="nothing",
        drawn=True,
        evidence="in the proving ground it was better than a random choice in two of six worlds and worse in none, for a small student "
        "(docs/evidence.md)",
    ),
    "length": Entry(
        make="length:by_length",
        help="The longest or shortest instructions or answers.",
        purpose="a simple choice to compare with",
        assumes="longer rows teach more",
        cost="nothing; tokens need a tokenizer",
        argument=Argument(
            fills=("of",),
            form="instruction|answer",
            help="What to measure.  [default: instruction]",
            required=False,
        ),
        settings=(
            Setting(
                name="unit",
                default="characters",
                form="UNIT",
                help="characters, or a tokenizer: a tokenizer.json, a folder with one, a name on the Hub.",
            ),
            Setting(
                name="direction",
                default="up",
                form="up|down",
                help="up: the longest first; down: the shortest.",
            ),
        ),
        source="Zhao et al. 2024, arXiv 2402.04833",
        evidence="in the proving ground the longest answers were worse than a random choice in two of four worlds and better in none "
        "(docs/evidence.md)",
    ),
    "reward": Entry(
        make="reward:by_reward",
        help="The highest or lowest reward of the best answer.",
        purpose="the best answers there are",
        assumes="the reward is right, and has no liking for length or a model",
        cost="nothing",
        argument=Argument(
            fills=("direction",),
            form="up|down",
            help="up: the highest first; down: the lowest.  [default: up]",
            required=False,
        ),
        evidence="in the proving ground the highest rewards were better than a random choice in three of six worlds, and worse with a "
        "biased reward (docs/evidence.md)",
    ),
    "rds": Entry(
        make="rds:rds",
        help="Rows nearest to a few examples of what the student should do.",
        purpose="a target that you can show examples of",
        assumes="the examples are what the student will do, and rows with near vectors teach it",
        cost="100,000 vectors: `lsa`, or a pass of the embedder; with `hidden:MODEL` over instruction and answer",
        argument=Argument(
            fills=("examples",),
            form="FILE",
            help="The examples: a training file, a pool, or instructions.",
        ),
        source="RDS+, Ivison et al. 2025, arXiv 2503.01807",
        evidence="in the proving ground it was better than a random choice in none of four worlds and worse in none, where pool and test were "
        "of one kind (docs/evidence.md)",
    ),
    "tags": Entry(
        make="tags:by_tags",
        help="Rows with many tags first, each adding a new one (InsTag).",
        purpose="many topics and skills",
        assumes="tags are right, and more tags mean more to learn",
        cost="100,000 rows tagged by a model",
        argument=Argument(
            fills=("column",), form="COLUMN", help="Tags: a list, or text separated by commas."
        ),
        source="InsTag, Lu et al. 2023, arXiv 2308.07074",
    ),
    "column": Entry(
        make="column:by_column",
        help="The highest numbers of a column; with a judge's scores, AlpaGasus.",
        purpose="any number of yours, such as a judge's mark",
        assumes="the number measures what should be learnt",
        cost="100,000 rows judged, or whatever the column costs",
        argument=Argument(fills=("column",), form="COLUMN", help="A reward column, or one number per row."),
        source="AlpaGasus, Chen et al. 2023, arXiv 2307.08701",
    ),
    "ifd": Entry(
        make="ifd:by_ifd",
        help="Instruction-following difficulty under a language model.",
        purpose="answers that do not follow from the instruction",
        assumes="a language model's loss says how hard a row is to learn",
        cost="200,000 sequences through the model: every answer with its instruction and alone",
        argument=Argument(
            fills=("model",), form="MODEL", help="A causal language model: a folder, or a name on the Hub."
        ),
        settings=(
            Setting(
                name="max_length",
                kind=int,
                default=2048,
                form="N",
                help="Token limit for instruction and answer together.",
            ),
            Setting(name="batch_tokens", kind=int, default=4096, form="N", help="Token limit of a batch."),
            Setting(name="device", default="auto", form="DEVICE", help="cpu, cuda, ..."),
        ),
        runs_a_model=True,
        source="Li et al. 2023, arXiv 2308.12032",
    ),
    "deita": Entry(
        make="deita:deita",
        help="Complexity x quality, without near-duplicates.",
        purpose="hard and good rows, none twice",
        assumes="two grades are right, and near rows add nothing",
        cost="200,000 grades; vectors of about twice as many rows as are chosen",
        argument=Argument(
            fills=("complexity", "quality"),
            form="COMPLEXITY,QUALITY",
            help="Two columns, each a reward or one number per row.",
        ),
        options={"near_duplicates": 0.9},
        source="deita, Liu et al. 2023, arXiv 2312.15685",
        evidence="in the proving ground it was worse than a random choice in two of four worlds and better in none (docs/evidence.md)",
    ),
    "facility-location": Entry(
        make="facility_location:facility_location",
        help="Rows that represent all others best.",
        purpose="rows that stand for the whole pool",
        assumes="rows with near vectors teach the same",
        cost="100,000 vectors, all in memory",
        settings=(
            Setting(
                name="neighbours",
                kind=int,
                default=50,
                form="N",
                help="How many of its nearest rows each row is linked to.",
            ),
            Setting(
                name="weight_by",
                form="NAME",
                help="What rows are weighted by: crowdselect, reward or a column.  [default: nothing]",
            ),
        ),
        evidence="in the proving ground it was better than a random choice in none of four worlds (docs/evidence.md)",
    ),
}
"""The methods by the names that commands and recipes use; `crowd` is called `crowdselect` in manifests."""


def method_named(spec: str, **settings: Any) -> "Method":  # noqa: ANN401  (those of the function)
    """Build a method from `NAME` or `NAME:ARG`.

    Args:
        spec: A name of `METHODS`, and after a colon its `Argument`.
        **settings: Its `settings`, by their names.

    Raises:
        OptionError: There is no such method; its argument is missing, or it takes none; or a setting or a value is
            not one of the method's.

    Example:
        >>> method_named("reward:down").settings["direction"]
        'down'
        >>> method_named("tags")
        Traceback (most recent call last):
        crowdselect.errors.OptionError: `method=tags` needs COLUMN (Tags: a list, or text separated by commas.); write it as tags:COLUMN
    """
    name, colon, argument = spec.partition(":")
    entry = entry_named(spec)
    known = {setting.name for setting in entry.settings} | ({"parts"} if entry.runs_a_model else set())
    for setting in settings:
        if setting not in known:
            raise OptionError(f"`{setting}` is not a setting of the method {name}")
    return entry(**_filled(name, entry.argument, argument if colon else None), **settings)


def entry_named(spec: str) -> Entry:
    """Look up the record of `NAME` or `NAME:ARG`.

    Raises:
        OptionError: There is none of that name.
    """
    name = spec.partition(":")[0]
    if name not in METHODS:
        raise OptionError(
            f"`method={name}` is unknown; the methods are: {', '.join(METHODS)}{near_miss(name, METHODS)}"
        )
    return METHODS[name]


def _filled(name: str, wanted: Argument | None, argument: str | None) -> dict[str, str]:
    """Parse the function's arguments by name from what follows the colon; None = there is no colon."""
    if wanted is None:
        if argument is not None:
            raise OptionError(f"`method={name}:{argument}`: {name} takes nothing after its name")
        return {}
    if argument is None and not wanted.required:
        return {}
    hint = f"write it as {name}:{wanted.form}"
    if not argument:
        raise OptionError(f"`method={name}` needs {wanted.form} ({wanted.help}); {hint}")
    # A column's name may hold a comma where only one is wanted.
    choices = wanted.form.split("|") if wanted.form.islower() else [argument]
    if argument not in choices:
        allowed = [*([] if wanted.required else [name]), *(f"{name}:{choice}" for choice in choices)]
        raise OptionError(f"`method={name}:{argument}` is unknown; choose one of: {', '.join(allowed)}")
    values = argument.split(",") if len(wanted.fills) > 1 else [argument]
    if len(values) != len(wanted.fills) or not all(values):
        raise OptionError(f"`method={name}:{argument}`: wanted {wanted.form} ({wanted.help}); {hint}")
    return dict(zip(wanted.fills, values, strict=True))
