"""`--method`, which brings defaults of other options with it, and the options that belong to one method."""

from collections.abc import Callable
from typing import Any

import click

from crowdselect.cli.options import bundle, option, section
from crowdselect.methods import METHODS, entry_named

CROWD = "crowd"
"""The method that `select` takes unless told otherwise, and the only one that weighs metrics."""

_method = section("Method")


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
    ctx.default_map = {**usual_options(value), **(ctx.default_map or {})}
    return value


def usual_options(method: str) -> dict[str, Any]:
    """Give the values of options that `--method` brings with it.

    Example:
        >>> usual_options("crowd"), usual_options("deita:complexity,quality")
        ({}, {'clusters': 0, 'near_duplicates': 0.9})
    """
    own = entry_named(method).options
    return dict(own) if method == CROWD else {"clusters": 0, **own}


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
