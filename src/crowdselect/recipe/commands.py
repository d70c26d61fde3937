"""The commands that a recipe may hold. Their options are click's own, so that nothing is written twice."""

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

import click

from crowdselect.errors import OptionError

POOL = "pool"
MANY = frozenset({"select", "train", "evaluate.mt-bench", "evaluate.arena-hard"})
"""Sections that may stand there more than once, as `[[select]]`; baselines may, too."""
ARGUMENTS = {"collect": "instructions", "train": "data"}
"""Sections whose argument the user may give, and the name it has in a recipe."""
BENCHMARKS = ("evaluate.mt-bench", "evaluate.arena-hard")

_ORDER = ("collect", "reward", "select", "baseline", "train", "evaluate", "compare")
_OURS = frozenset(
    {"output", "overwrite", "json", "plan", "seal", "dry-run", "resume", "config", "against", "seeds", "help"}
)
_SET_BY_US = {  # options that come from the steps before
    "compare": frozenset({"name"}),
    "reward": frozenset({"rewards"}),
    "evaluate.mt-bench": frozenset({"name", "answers", "judgments"}),
    "evaluate.arena-hard": frozenset({"name", "answers", "judgments"}),
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
"""Options that say how, not what: they change no result, so they are in no key."""


@cache
def sections() -> tuple[str, ...]:
    """Name all sections, in the order of the chain.

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
    """Give the command of a section other than `pool`."""
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
    """Give the options that a section may set, by their names without dashes.

    Example:
        >>> "budget" in options_of("select"), "output" in options_of("select")
        (True, False)
    """
    if section == POOL:
        every = options_of("select")
        return {name: every[name] for name in ("layout", "rewards", "limit")}
    hidden = _OURS | _SET_BY_US.get(section, frozenset())
    return {name: option for name, option in _all_options(section).items() if name not in hidden}


def has_option(section: str, name: str) -> bool:
    """Whether the command of a section has an option, whoever sets it."""
    return name in _all_options(section)


@cache
def _all_options(section: str) -> Mapping[str, click.Option]:
    return {
        option.opts[-1].removeprefix("--"): option
        for option in command_of(section).params
        if isinstance(option, click.Option)
    }


def known_keys(section: str) -> list[str]:
    """Name the keys of a section's table."""
    own = {POOL: ["path"]}.get(section, ["label"])
    argument = ARGUMENTS.get(section)
    return sorted([*options_of(section), *own, *([argument] if argument else [])])


def check_key(section: str, key: str, *, where: str) -> str:
    """Spell a key as the command line does.

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
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise OptionError(f"{where}: unknown key {key!r}; the nearest known one is {near[0]!r}")


def arguments(section: str, options: Mapping[str, Any], *, where: str) -> list[str]:
    """Write options as a command line does.

    Args:
        section: Of the recipe.
        options: By name; what a table of TOML holds.
        where: For messages.

    Returns:
        `--name=value` and `--flag`.

    Raises:
        OptionError: A value cannot be written so.

    Example:
        >>> arguments("select", {"budget": 10, "weights": {"difficulty": -1}, "report": True}, where="r.toml")
        ['--budget=10', '--weights=difficulty=-1', '--report']
    """
    found = []
    for name, value in options.items():
        option = _all_options(section)[name]
        if option.is_flag:
            if not isinstance(value, bool):
                raise OptionError(f"{where}: {name} is {value!r}; wanted true or false")
            if value or option.secondary_opts:
                found.append(option.opts[-1] if value else option.secondary_opts[-1])
            continue
        values = value if option.multiple and isinstance(value, list) else [value]
        found += [f"--{name}={_text(one, option, f'{where}: {name}')}" for one in values]
    return found


def _text(value: object, option: click.Option, where: str) -> str:
    if isinstance(value, dict) and option.type.name == "weights":
        return ",".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise OptionError(f"{where} is {value!r}; wanted one value of text or a number")
    if isinstance(value, str) and "\0" in value:
        raise OptionError(f"{where} is {value!r}; wanted text without a null character")
    return str(value)


def parsed(section: str, line: list[str], *, where: str) -> dict[str, Any]:
    """Let click read a command line, as the command itself will.

    Args:
        section: Of the recipe.
        line: The arguments, with placeholders for what other steps will give.
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
    return {
        name: context.params[str(option.name)]
        for name, option in _all_options(section).items()
        if name != "help"
    }
