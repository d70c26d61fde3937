"""Reads a recipe: tables of options, lists that make sweeps, and titles that distinguish a sweep's points.

The options are those of the commands, taken from click, so that nothing is declared twice.
"""

import itertools
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from crowdselect.cli.former import former_section
from crowdselect.errors import InputError, OptionError, near_miss
from crowdselect.pool.howread import READ_OPTIONS
from crowdselect.textfile import not_utf8

POOL = "pool"
UNJUDGED = ("evaluate.harness", "evaluate.loss", "evaluate.prefers")
"""Sections that measure a model without a judge. Their key `model` names one; that of a pool's is read from [pool]."""
BENCHMARKS = ("evaluate.mt-bench", "evaluate.arena-hard", *UNJUDGED)
MANY = frozenset({"select", "train", *BENCHMARKS})
"""Sections that may appear more than once, as `[[select]]`."""
ARGUMENTS = {"collect": "instructions", "train": "data"}
"""Sections whose command takes a positional argument from the user, and its name in a recipe."""

_ORDER = ("collect", "reward", "select", "train", "evaluate", "compare")
_OURS = frozenset(
    {"output", "overwrite", "json", "plan", "seal", "dry-run", "resume", "config", "against", "seeds", "help"}
)
_SET_BY_US = {  # options set from earlier steps
    "compare": frozenset({"name"}),
    "reward": frozenset({"rewards"}),
    "evaluate.mt-bench": frozenset({"name", "answers", "judgments"}),
    "evaluate.arena-hard": frozenset({"name", "answers", "judgments"}),
    **dict.fromkeys(UNJUDGED, frozenset({"name"})),
}
HOW = frozenset(
    {
        "attempts",
        "concurrency",
        "force-ledger",
        "keep-checkpoints",
        "ledger",
        "max-cost",
        "max-requests",
        "no-cache",
    }
    | {
        "patience",
        "retry-failed",
        "retry-wait",
        "timeout",
        "engine",
        "ray-address",
        "workers",
        "gpus-per-worker",
    }
)
"""Options that do not change results, so they are in no key."""
_MOST = 10_000  # steps of one table: a larger sweep is a mistake


@cache
def sections() -> tuple[str, ...]:
    """Return the names of all sections, in the order of the chain.

    Example:
        >>> sections()[:4]
        ('pool', 'collect', 'reward', 'select')
    """
    from crowdselect.cli.main import cli

    context = click.Context(cli)
    found = [POOL]
    for name in _ORDER:
        command = cli.get_command(context, name)
        found += (
            [f"{name}.{inner}" for inner in command.commands] if isinstance(command, click.Group) else [name]
        )
    return tuple(found)


@cache
def command_of(section: str) -> click.Command:
    """Return the command of a section other than `pool`."""
    from crowdselect.cli.main import cli

    found: click.Command = cli
    for part in section.split("."):
        assert isinstance(found, click.Group)  # noqa: S101  (sections() made the name)
        inner = found.get_command(click.Context(found), part)
        assert inner is not None  # noqa: S101  (same)
        found = inner
    return found


@cache
def options_of(section: str) -> Mapping[str, click.Option]:
    """Return the options that a section may set, by name without dashes.

    Example:
        >>> "budget" in options_of("select"), "output" in options_of("select")
        (True, False)
    """
    if section == POOL:
        every = options_of("select")
        read = (name.replace("_", "-") for name in READ_OPTIONS)
        return {name: every[name] for name in ("rewards", "limit", *read)}
    hidden = _OURS | _SET_BY_US.get(section, frozenset())
    return {name: option for name, option in _all_options(section).items() if name not in hidden}


def has_option(section: str, name: str) -> bool:
    """Return whether a section's command has an option, including those set by the run."""
    return name in _all_options(section)


@cache
def _all_options(section: str) -> Mapping[str, click.Option]:
    return {
        option.opts[-1].removeprefix("--"): option
        for option in command_of(section).params
        if isinstance(option, click.Option)
    }


def known_keys(section: str) -> list[str]:
    """Return the valid keys of a section's table."""
    own = {POOL: ["path"]}.get(section, ["label"])
    argument = ARGUMENTS.get(section, "model" if section in UNJUDGED else None)
    shown = (name for name, option in options_of(section).items() if not option.hidden)
    return sorted({*shown, *own, *([argument] if argument else [])})


def check_key(section: str, key: str, *, where: str) -> str:
    """Check a key, and return it as spelt on the command line.

    Raises:
        OptionError: There is no such key; the message names the nearest.
    """
    name = key.replace("_", "-")
    known = known_keys(section)
    if name in known:
        return name
    if name == "seeds":
        raise OptionError(
            f"{where}: write seed = [0, 1, 2] in place of seeds: a list makes one step per seed"
        )
    if name in _OURS or name in _SET_BY_US.get(section, frozenset()):
        raise OptionError(f"{where}: {key!r} is set by the recipe's run itself; leave it out")
    raise OptionError(f"{where}: unknown key {key!r}{near_miss(name, known)}")


def arguments(section: str, options: Mapping[str, Any], *, where: str) -> list[str]:
    """Write options as command-line arguments.

    Args:
        section: The recipe's section.
        options: Name → value, as in TOML.
        where: For messages.

    Returns:
        `--name=value` and `--flag`.

    Raises:
        OptionError: A value cannot be written as an argument.

    Example:
        >>> arguments("select", {"budget": 10, "weights": {"difficulty": -1}, "report": True}, where="r.toml")
        ['--budget=10', '--weights=difficulty=-1', '--report']
        >>> arguments("select", {"missing": [-1, 0], "columns": {"model": "by"}}, where="r.toml")
        ['--missing=-1', '--missing=0', '--columns=model=by']
    """
    line = []
    for name, value in options.items():
        option = _all_options(section)[name]
        if option.is_flag:
            if not isinstance(value, bool):
                raise OptionError(f"{where}: {name} is {value!r}; wanted true or false")
            if value or option.secondary_opts:
                line.append(option.opts[-1] if value else option.secondary_opts[-1])
            continue
        values = value if option.multiple and isinstance(value, list) else [value]
        line += [f"--{name}={_text(one, option, f'{where}: {name}')}" for one in values]
    return line


def _text(value: object, option: click.Option, where: str) -> str:
    if isinstance(value, dict) and option.type.name in {"weights", "columns"}:
        return ",".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise OptionError(f"{where} is {value!r}; wanted one value of text or a number")
    if isinstance(value, str) and "\0" in value:
        raise OptionError(f"{where} is {value!r}; wanted text without a null character")
    return str(value)


def parsed(section: str, line: list[str], *, where: str) -> dict[str, Any]:
    """Parse a command line with click, as the command itself will.

    Args:
        section: The recipe's section.
        line: The arguments, with placeholders for other steps' outputs.
        where: For messages.

    Returns:
        Every option's value by name, defaults included.

    Raises:
        OptionError: The command would refuse it.
    """
    command = command_of(section)
    try:
        context = command.make_context(section.replace(".", " "), list(line))
    except click.ClickException as error:
        raise OptionError(f"{where}: {error.format_message()}") from error
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error
    return {
        name: context.params[str(option.name)]
        for name, option in _all_options(section).items()
        if option.expose_value
        if name != "help"
    }


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One table of a recipe with one value for each of its lists.

    Attributes:
        section: Such as `select` or `evaluate.mt-bench`.
        where: File and table, for messages.
        options: Name → value; without `label`.
        label: The user's name for it; None = its method, or the section's last part.
    """

    section: str
    where: str
    options: Mapping[str, Any]
    label: str | None = None

    @property
    def name(self) -> str:
        """Its name without the swept options."""
        own = str(self.options.get("method", self.section.rpartition(".")[2]))
        return self.label or (f"{own} baseline" if own != self.section and own in sections() else own)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: section → its points, in file order."""

    path: Path
    tables: Mapping[str, tuple[SweepPoint, ...]]

    @property
    def folder(self) -> Path:
        """The folder that its relative paths start from."""
        return self.path.parent

    def one(self, section: str) -> Mapping[str, Any]:
        """Return the options of a table that cannot be swept; empty if there is none."""
        found = self.tables.get(section, ())
        return found[0].options if found else {}


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file.

    Returns:
        Its tables, lists unfolded.

    Raises:
        InputError: It cannot be read, or is not TOML.
        OptionError: A table or key is unknown, or a value is invalid; the message names table and key.
    """
    file = Path(path)
    document = _document(file)
    tables: dict[str, tuple[SweepPoint, ...]] = {}
    for section, found in _sections(document, str(path)):
        points = [point for table, where in found for point in _points(section, table, where)]
        if section in {POOL, "compare", "evaluate.compare"} and len(points) > 1:
            raise OptionError(
                f"{path}: [{section}] has a list where one value is wanted; there is only one of it"
            )
        tables[section] = tuple(points)
    ordered = {section: tables[section] for section in sections() if section in tables}
    return Recipe(file.resolve(), ordered)


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such recipe; crowdselect run --example prints one to begin with"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: the recipe cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a TOML file: {not_utf8(error)}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not a TOML file: {' '.join(str(error).split())}") from error


def _sections(
    document: Mapping[str, Any], path: str
) -> Iterator[tuple[str, list[tuple[dict[str, Any], str]]]]:
    """Yield each section with its tables; `[evaluate.mt-bench]` is a table in a table."""
    known = sections()
    outer = {name.partition(".")[0] for name in known if "." in name}
    for name, value in document.items():
        if name == "baseline":
            raise OptionError(f"{path}: {former_section(value)}")
        if name not in outer:
            yield _known(name, known, path), _tables(name, value, path)
            continue
        if not isinstance(value, dict) or not all(isinstance(part, dict | list) for part in value.values()):
            inner = [one for one in known if one.startswith(f"{name}.")]
            raise OptionError(
                f"{path}: [{name}] holds no options itself; write one of: {', '.join(f'[{one}]' for one in inner)}"
            )
        for part, table in value.items():
            section = _known(f"{name}.{part}", known, path)
            yield section, _tables(section, table, path)


def _known(name: str, known: tuple[str, ...], path: str) -> str:
    if name in known:
        return name
    listed = ", ".join(f"[{one}]" for one in known)
    raise OptionError(f"{path}: unknown table [{name}]; the tables are: {listed}{near_miss(name, known)}")


def _tables(section: str, value: object, path: str) -> list[tuple[dict[str, Any], str]]:
    if isinstance(value, dict):
        return [(value, f"{path}: [{section}]")]
    if not isinstance(value, list) or not value or not all(isinstance(part, dict) for part in value):
        raise OptionError(f"{path}: {section!r} is {value!r}; wanted a table, [{section}]")
    if section not in MANY:
        raise OptionError(f"{path}: [[{section}]] may appear only once; write [{section}]")
    return [(table, f"{path}: [[{section}]] number {number}") for number, table in enumerate(value, start=1)]


def _points(section: str, table: Mapping[str, Any], where: str) -> list[SweepPoint]:
    """Unfold the lists of a table: the cross product, the last list fastest."""
    axes: dict[str, list[Any]] = {}
    for key, value in table.items():
        name = check_key(section, key, where=where)
        if name in axes:
            raise OptionError(f"{where}: {name!r} is given twice, with - and with _; keep one")
        axes[name] = _axis(section, name, value, where)
    label = axes.pop("label", [None])[0] if section != POOL else None
    if label is not None and (not isinstance(label, str) or not label.strip()):
        raise OptionError(f"{where}: label is {label!r}; wanted text")
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > _MOST:
        raise OptionError(f"{where}: its lists make {count:,} steps; wanted at most {_MOST:,}")
    products = itertools.product(*axes.values())
    return [SweepPoint(section, where, dict(zip(axes, values, strict=True)), label) for values in products]


def _axis(section: str, name: str, value: object, where: str) -> list[Any]:
    """Return the values of one key: a list has one per step, unless the option itself takes a list."""
    option = options_of(section).get(name)
    if option is not None and option.multiple:
        if isinstance(value, list) and any(isinstance(part, list) for part in value):
            return [_list(part, option, f"{where}: {name}") for part in value] or [[]]
        return [_list(value, option, f"{where}: {name}")]
    if not isinstance(value, list):
        return [value]
    if not value or name == "label":
        raise OptionError(f"{where}: {name} is {value!r}; wanted a value, or a list of some")
    if len({repr(one) for one in value}) < len(value):
        raise OptionError(f"{where}: {name} holds a value twice: {value!r}")
    return value


def _list(value: object, option: click.Option, where: str) -> list[Any]:
    values: list[Any] = value if isinstance(value, list) else [value]
    numbers = option.type.name == "float"
    kinds = int | float if numbers else str
    if not all(isinstance(part, kinds) and not isinstance(part, bool) for part in values):
        raise OptionError(f"{where} is {value!r}; wanted a list of {'numbers' if numbers else 'texts'}")
    return values


def titles_of(points: Sequence[SweepPoint], *, but: Collection[str] = ()) -> list[str]:
    """Name the points of a sweep by their name and by the options in which points of that name differ.

    Args:
        points: Points of one table, or of several.
        but: Options to ignore.
    """
    titles = []
    for point in points:
        alike = [other for other in points if other.name == point.name]
        words = [point.name]
        for name in dict.fromkeys(name for other in alike for name in other.options if name not in but):
            values = {repr(other.options.get(name)): other.options.get(name) for other in alike}
            if len(values) > 1 and name in point.options:
                short = len({_shown(value) for value in values.values()}) == len(values)
                value = point.options[name]
                words.append(f"{name} {_shown(value) if short else plain_name(str(value))}")
        titles.append(" ".join(words))
    return titles


def _shown(value: object) -> str:
    """Write a value for people, without characters that mean something in an argument NAME=DIR,DIR."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, list):
        return "+".join(_shown(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return plain_name(text.rstrip("/").rpartition("/")[2] or text)


def plain_name(text: str) -> str:
    """Replace the characters that separate names in a comparison, `=` and `,`, by spaces.

    Example:
        >>> plain_name("weights a=1,b=2")
        'weights a 1 b 2'
    """
    return " ".join(text.replace("=", " ").replace(",", " ").split())


def spoken(seconds: float) -> str:
    """Format a duration for people.

    Example:
        >>> spoken(3.21), spoken(75), spoken(7260)
        ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
