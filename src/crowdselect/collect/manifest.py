"""The manifest beside a sealed pool: what is in it, what is missing and why, what it cost."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect.ask.conversations import Tally
from crowdselect.ask.ledger import Ledger
from crowdselect.collect.instructions import Instructions
from crowdselect.pool.files import fingerprint
from crowdselect.writing import TOOL, new_file

_REASONS = 20  # listed per model


def manifest_path(target: Path) -> Path:
    """Give the manifest's place: beside the pool, with its name."""
    return target.with_name(target.name + ".manifest.json")


def read_pool_manifest(target: Path) -> dict[str, Any] | None:
    """Read the manifest of a sealed pool; None where there is none of ours, or the pool was changed since."""
    try:
        found = json.loads(manifest_path(target).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(found, dict) or found.get("tool") != TOOL or not target.is_file():
        return None
    return found if found.get("fingerprint") == fingerprint([target]) else None


def write_pool_manifest(
    instructions: Instructions,
    ledger: Ledger,
    target: Path,
    tallies: Mapping[str, Tally],
    *,
    facts: Mapping[str, Any],
) -> None:
    """Write the manifest of a pool that is in its place."""
    manifest = {
        "tool": TOOL,
        "kind": "pool",
        "version": __version__,
        "python": platform.python_version(),
        "ledger": ledger.noted("id"),
        "instructions": {
            "file": instructions.path,
            "rows": instructions.count,
            "without_text": instructions.without_text,
            "fingerprint": instructions.fingerprint,
        },
        "rows": sum(tally.rows for tally in tallies.values()),
        "missing": sum(tally.missing for tally in tallies.values()),
        "models": {name: _tally_facts(tally) for name, tally in tallies.items()},
        "spent": {name: asdict(spent) for name, spent in ledger.spent().items()},
        **facts,
        "written": sorted([target.name, manifest_path(target).name]),
        "fingerprint": fingerprint([target]),
    }
    with new_file(manifest_path(target)) as partial:
        partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


def _tally_facts(tally: Tally) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "missing": tally.missing,
        "statuses": dict(sorted(tally.statuses.items())),
        "reasons": dict(tally.reasons.most_common(_REASONS)),
        **({"odd": dict(tally.odd.most_common(_REASONS))} if tally.odd else {}),
        "cost": tally.cost,
        "cost_unknown": tally.cost_unknown,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
    }
