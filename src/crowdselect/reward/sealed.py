"""Writes scores to `rewards.parquet`, with a manifest beside it."""

import json
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect.pool.files import fingerprint
from crowdselect.pool.layouts import STUDENT
from crowdselect.pool.pool import Pool
from crowdselect.repeats import as_metadata, made_in
from crowdselect.reward.protocol import Outcome
from crowdselect.reward.run import Column, Scores, Tally, Window, outcomes
from crowdselect.writing import TOOL, new_file, read_manifest

COMMAND = "reward"
"""What a rewards file says it was made by."""
_PACKAGES = (
    "crowdselect",
    "duckdb",
    "pyarrow",
    "torch",
    "transformers",
    "tokenizers",
    "openai",
    "math-verify",
)
_MOST_REASONS = 20


def write_rewards(
    found_in: Iterable[Window],
    columns: Sequence[Column],
    ledger: Scores | None,
    target: Path,
    *,
    students: Collection[str],
    made: Mapping[str, Any],
) -> dict[str, Tally]:
    """Write every answer of a pool with its scores, a window at a time; the file appears complete or not at all.

    Args:
        found_in: The pool's answers, from `windows` with the references of the scoring.
        columns: What to write.
        ledger: What was scored; None where all scores are looked up.
        target: A path that `check_output` has passed.
        students: Models whose rows are marked, as they are in the pool; without any there is no column for it.
        made: From `crowdselect.repeats.made_by`, by which the same command knows its file again.

    Returns:
        Column name → counts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [column.name for column in columns]
    schema = pa.schema(
        [("id", pa.string()), ("model", pa.string())]
        + [(STUDENT, pa.bool_())] * bool(students)
        + [("sample", pa.int64())]
        + [(name, pa.float64()) for name in names]
        + [("truncated", pa.bool_()), ("reason", pa.string())],
        metadata=as_metadata(made),
    )
    tallies = {name: Tally() for name in names}
    with new_file(target) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for window in found_in:
            found = {column.name: outcomes(column, window, ledger) for column in columns}
            for name in names:
                for outcome in found[name]:
                    tallies[name].add(outcome)
            ids, models, samples = zip(*window.places, strict=True) if window.places else ((), (), ())
            rows = list(zip(*found.values(), strict=True))
            written = {
                "id": ids,
                "model": models,
                STUDENT: [model in students for model in models],
                "sample": samples,
                **{name: [outcome.score for outcome in found[name]] for name in names},
                "truncated": [any(outcome.truncated for outcome in row) for row in rows],
                "reason": [_reason(names, row) for row in rows],
            }
            arrays = [pa.array(written[entry.name], entry.type) for entry in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return tallies


def rewards_manifest_path(target: Path) -> Path:
    """Return the path of a rewards file's manifest."""
    return target.with_name(target.name + ".manifest.json")


def write_rewards_manifest(
    target: Path,
    *,
    pool: Pool,
    columns: Sequence[Column],
    tallies: Mapping[str, Tally],
    facts: Mapping[str, Any],
) -> None:
    """Write the manifest: inputs, settings, missing scores; its presence means the file is complete."""
    manifest = {
        "tool": TOOL,
        "kind": "rewards",
        "version": __version__,
        "versions": {"python": platform.python_version(), **_versions()},
        "pool": pool.path,
        "files": [str(file) for file in pool.files],
        "fingerprint": pool.fingerprint(),
        "columns": {column.name: _described(column, tallies[column.name]) for column in columns},
        **facts,
        "content": fingerprint([target]),
        "written": sorted([target.name, rewards_manifest_path(target).name]),
    }
    with new_file(rewards_manifest_path(target)) as partial:
        partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def is_ours(target: Path) -> bool:
    """Say whether a file is one that `reward` wrote and nobody has changed since."""
    if (made_in(target) or {}).get("command") != COMMAND:
        return False
    manifest = read_manifest(target.parent, rewards_manifest_path(target).name)
    # Without a manifest it is the file of a run that was killed before it wrote this.
    return manifest is None or manifest.get("content") == fingerprint([target])


def tallies_in(manifest: Mapping[str, Any]) -> dict[str, Tally]:
    """Read back what a manifest says of each column."""
    found = {}
    for name, facts in manifest["columns"].items():
        numbers = {part: facts[part] for part in ("answers", "scored", "truncated", "lowest", "highest")}
        found[name] = Tally(**numbers, missing=Counter(facts["missing"]))
    return found


def _described(column: Column, tally: Tally) -> dict[str, Any]:
    return {
        "with": column.scorer.spec,
        "settings": dict(column.scorer.settings),
        "answers": tally.answers,
        "scored": tally.scored,
        "truncated": tally.truncated,
        "missing": dict(tally.missing.most_common(_MOST_REASONS)),
        "lowest": tally.lowest,
        "highest": tally.highest,
        "notes": list(column.scorer.notes),
    }


def _reason(names: Sequence[str], row: Sequence[Outcome]) -> str | None:
    """Return why scores are missing; with several scorers each reason names its column."""
    if len(row) == 1:
        return row[0].reason
    found = [f"{name}: {outcome.reason}" for name, outcome in zip(names, row, strict=True) if outcome.reason]
    return "; ".join(found) or None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
