"""The command of a finished selection, written from its record."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import click

from crowdselect.cli.flags import typed_line
from crowdselect.cli.following import free_name, words_of
from crowdselect.cli.methods import CROWD, usual_options
from crowdselect.methods import METHODS
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS
from crowdselect.pool.howread import READ_OPTIONS, HowRead
from crowdselect.selection.methods import CROWD as OURS
from crowdselect.selection.methods import method_of
from crowdselect.selection.options import Options
from crowdselect.selection.selection import Selection
from crowdselect.selection.trainers import TRAINERS
from crowdselect.terminal import shown_path

_OF_OTHER_DATA = {"answer", "answers_per_row", "pairs", "format", "reference", "source", "pass_rate"}
"""What says which data is written, and gives way to pairs."""
_OF_THIS_RUN = {"cache"}


def pairing(select: click.Command, folder: str, selection: Selection) -> str | None:
    """Write the line that chooses preference pairs in the way in which a selection was chosen.

    A crowd file is not in it, as the record does not say where that is.

    Args:
        select: The command.
        folder: Where the selection is.
        selection: What is in it.

    Returns:
        The line; None where the method is one of the user's own, which no command has.
    """
    options = selection.options
    method = _method(options)
    if method is None:
        return None
    told = {**_pool(selection.facts), **_choice(options, method), **_settings(options, method)}
    told |= {} if method == CROWD and not _for_student(options) else {"method": method}
    known = [param for param in select.params if param.name in told]
    typed = [word for param in known for word in words_of(param, told[str(param.name)])]
    pairs = ["--pairs", "best-worst", "-o", free_name(f"{folder.rstrip('/')}-pairs")]
    return typed_line(["select", shown_path(selection.facts["pool"]), *typed, *pairs])


def used_crowd_file(selection: Selection, manifest: Mapping[str, Any]) -> bool:
    """Tell whether a selection was made with a crowd file."""
    listed = any(member["source"] == "file" for member in selection.facts.get("crowd", ()))
    return listed or manifest.get("made", {}).get("inputs", {}).get("crowd") is not None


def _method(options: Mapping[str, Any]) -> str | None:
    """The method as `NAME[:ARG]`."""
    name = method_of(options)
    if name == OURS.name:
        return CROWD
    if name not in METHODS:
        return None
    argument = METHODS[name].argument
    values = [str(options[fill]) for fill in (argument.fills if argument else ()) if fill in options]
    return f"{name}:{','.join(values)}" if values else name


def _for_student(options: Mapping[str, Any]) -> bool:
    """Whether `select` would take the method for a student, were none named."""
    return any(options.get(name) is not None for name in ("student", "student_answers", "student_column"))


def _pool(facts: Mapping[str, Any]) -> dict[str, Any]:
    """How the pool is read, where that is not as usual."""
    read = HowRead.from_dict(facts["read"] if "read" in facts else {"layout": facts["layout"]})
    usual = HowRead()
    told = {name: getattr(read, name) for name in READ_OPTIONS if getattr(read, name) != getattr(usual, name)}
    return told | {name: facts.get(name) for name in ("rewards", "limit")}


def _choice(options: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The options that decided the choice and are not as usual."""
    usual = {part.name: part.default for part in fields(Options)} | usual_options(method)
    left_out = {*_OF_OTHER_DATA, *_OF_THIS_RUN, "weights"}
    left_out |= {"clusters"} if options.get("cluster_by") is not None else set()  # which replaces them
    trainer = TRAINERS.get(options.get("trainer") or "")
    if trainer is not None and "dpo" not in trainer.forms:
        left_out |= {"trainer", "file_type"}
    told = {
        name: _as_typed(value)
        for name, value in options.items()
        if name in usual and name not in left_out and usual[name] is not MISSING
        if _as_typed(value) != usual[name]
    }
    told["budget"] = options["budget"]
    return told | (_weights(options) if method == CROWD else {})


def _as_typed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _weights(options: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    weights, usual = (
        {name: weight for name, weight in each.items() if weight}
        for each in (options["weights"], DEFAULT_WEIGHTS)
    )
    return {} if weights == usual else {"weights": weights}


def _settings(options: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The settings of the method that are not as usual."""
    settings = METHODS[method.partition(":")[0]].settings
    return {
        one.name: options[one.name] for one in settings if options.get(one.name, one.default) != one.default
    }
