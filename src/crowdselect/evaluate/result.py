"""The shape of a result that no judge has a part in: one result.json, one manifest, read back as it was written."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect.errors import InputError
from crowdselect.evaluate.measures import MEASURES
from crowdselect.evaluate.scores import LEVEL, ROUNDS, Cells, interval, resampled
from crowdselect.pool.files import fingerprint
from crowdselect.writing import TOOL, read_manifest, write_manifest

RESULT = "result.json"
_REASONS = 20  # most reasons listed


@dataclass(frozen=True, slots=True)
class Measured:
    """What came out: the content of result.json, and whether it was there already."""

    folder: Path
    result: dict[str, Any]
    was_there: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every row has a number."""
        return not self.result["rows"]["missing"]


def scored(cells: Cells, scale: float, seed: int) -> dict[str, Any]:
    """Score cells: the mean times `scale`, its 95 % interval over questions, and how many questions count."""
    score = cells.mean()
    ends = interval(scale * resampled(cells, seed=seed))
    return {
        "score": None if score is None else scale * score,
        "interval": None if ends is None else list(ends),
        "questions_scored": int((cells.weights.sum(axis=1) > 0).sum()),
    }


def by_question(cells: Cells) -> list[dict[str, Any]]:
    """Write the sums and weights of each question, which `compare` pairs."""
    return [
        {"id": id_, "category": category, "sums": sums, "weights": weights}
        for id_, category, sums, weights in zip(
            cells.ids, cells.categories, cells.sums.tolist(), cells.weights.tolist(), strict=True
        )
    ]


def measured(
    benchmark: str,
    model: str,
    cells: Cells,
    *,
    parts: Mapping[str, Cells],
    reasons: Counter[str],
    seed: int,
    cut: int = 0,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Score what was measured.

    Args:
        benchmark: A key of `MEASURES`.
        model: What the model is called.
        cells: All rows; weight 0 = missing.
        parts: Name → the cells of a part with a score of its own.
        reasons: Why rows are missing, and how many.
        seed: Seed of the resampling.
        cut: Answers that were cut.
        notes: Lines for the user.

    Returns:
        The content of result.json.
    """
    measure = MEASURES[benchmark]
    return {
        "benchmark": benchmark,
        "model": model,
        "judge": None,
        "baseline": None,
        **scored(cells, measure.scale, seed),
        "unit": measure.unit,
        "resampling": {"of": measure.of, "rounds": ROUNDS, "level": LEVEL, "seed": seed},
        "categories": {name: scored(part, measure.scale, seed) for name, part in parts.items()},
        "rows": {
            "wanted": len(cells.ids),
            "missing": reasons.total(),
            "reasons": dict(reasons.most_common(_REASONS)),
            "cut": cut,
        },
        "notes": list(notes),
        "questions": by_question(cells),
    }


def write_measured(
    partial: Path, result: Mapping[str, Any], *, made: Mapping[str, Any], conditions: Mapping[str, Any]
) -> None:
    """Write the result into a new folder, and last its manifest.

    Args:
        partial: The folder that is being made.
        result: From `measured`.
        made: From `crowdselect.repeats.made_by`.
        conditions: What results have to share to be compared without care.
    """
    text = json.dumps(result, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    (partial / RESULT).write_text(text, encoding="utf-8")
    manifest = {
        "tool": TOOL,
        "kind": "evaluation",
        "version": __version__,
        "python": platform.python_version(),
        **{name: result[name] for name in ("benchmark", "model", "judge", "baseline")},
        "prompts": None,
        "inputs": {},
        "conditions": conditions,
        "missing": result["rows"]["missing"],
        "made": made,
        "fingerprint": fingerprint([partial / RESULT]),
    }
    write_manifest(partial, manifest)


def read_measured(folder: Path) -> Measured:
    """Read a finished result.

    Raises:
        InputError: There is none.
    """
    if read_manifest(folder) is None:
        raise InputError(f"{folder}: holds no finished evaluation")
    return Measured(folder, json.loads((folder / RESULT).read_text(encoding="utf-8")), was_there=True)


def model_name(student: str) -> str:
    """Say what a model is called where it has no other name.

    Example:
        >>> model_name("models/student/"), model_name("crowd.toml#far"), model_name("org/model")
        ('student', 'far', 'model')
    """
    return student.rpartition("#")[2].rstrip("/").rpartition("/")[2]
