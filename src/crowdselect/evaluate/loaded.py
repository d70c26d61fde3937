"""Finished evaluations, read back; and which of them are runs of one method."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.evaluate.scores import Cells
from crowdselect.pool.files import fingerprint
from crowdselect.writing import read_manifest

_CONDITIONS = {"questions": "file of questions", "references": "file of reference answers"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result.

    Attributes:
        folder: Where it is.
        benchmark: A key of `PROTOCOLS`.
        model: Who was evaluated.
        judge: By whom.
        baseline: Against whom; None where answers are graded alone.
        conditions: Digests of the judge's prompts, the questions and the reference answers; None = not known.
        unit: Of its score.
        cells: Its verdicts by question.
    """

    folder: str
    benchmark: str
    model: str
    judge: str
    baseline: str | None
    conditions: Mapping[str, str | None]
    unit: str
    cells: Cells


@dataclass(frozen=True, slots=True)
class Group:
    """A method: one result, or several of models that were trained the same way with other seeds."""

    name: str
    runs: tuple[Loaded, ...]


def load_result(folder: str) -> Loaded:
    """Read a folder of `crowdselect evaluate`.

    Raises:
        InputError: There is none, it is not finished, or its result was changed afterwards.

    Example:
        >>> load_result("no-such-folder")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-folder: holds no finished evaluation; wanted a folder of crowdselect evaluate
    """
    place = Path(folder)
    manifest = read_manifest(place)
    if manifest is None or manifest.get("kind") != "evaluation" or manifest.get("benchmark") not in PROTOCOLS:
        raise InputError(f"{folder}: holds no finished evaluation; wanted a folder of crowdselect evaluate")
    file = place / "result.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        intact = manifest.get("fingerprint") == fingerprint([file])
        cells = _cells(found["questions"])
        inputs: dict[str, dict[str, str]] = manifest["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: cannot be read: {' '.join(str(error).split())[:200]}; evaluate again"
        ) from error
    if not intact:
        raise InputError(f"{file}: was changed after the evaluation; run the evaluation again")
    return Loaded(
        folder,
        manifest["benchmark"],
        manifest["model"],
        manifest["judge"],
        manifest["baseline"],
        {
            "prompts of the judge": manifest["prompts"],
            **{what: inputs.get(key, {}).get("fingerprint") for key, what in _CONDITIONS.items()},
        },
        found["unit"],
        cells,
    )


def load_groups(texts: Sequence[str]) -> list[Group]:
    """Read methods as the command line names them: `DIR`, `DIR,DIR` or `NAME=DIR,DIR`.

    Raises:
        OptionError: Two methods have one name, or a folder stands there twice.
        InputError: A folder holds no result.
    """
    groups = []
    for text in texts:
        name, folders = _parsed(text)
        groups.append(Group(name, tuple(load_result(folder) for folder in folders)))
    names = [group.name for group in groups]
    places = [str(Path(run.folder).resolve()) for group in groups for run in group.runs]
    for values, what in ((names, "method"), (places, "folder")):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise OptionError(f"the {what} {twice} is named twice; name methods with NAME=DIR,DIR")
    return groups


def _parsed(text: str) -> tuple[str, list[str]]:
    name, equals, rest = text.partition("=")
    if Path(text).is_dir() or not equals:
        name, rest = "", text
    folders = [rest] if Path(rest).is_dir() else [part for part in rest.split(",") if part]
    if not folders:
        raise OptionError(f"{text!r}: names no folder; wanted DIR, DIR,DIR or NAME=DIR,DIR")
    return name or ",".join(Path(folder).resolve().name for folder in folders), folders


def _cells(rows: Sequence[dict[str, Any]]) -> Cells:
    turns = max((len(row["sums"]) for row in rows), default=1)
    return Cells(
        tuple(str(row["id"]) for row in rows),
        tuple(str(row["category"]) for row in rows),
        np.array([row["sums"] for row in rows], float).reshape(len(rows), turns),
        np.array([row["weights"] for row in rows], float).reshape(len(rows), turns),
    )
