"""What in a folder is ours: the files that its manifest lists, and nothing else."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
UNFINISHED = ".crowdselect-unfinished.json"
"""Lists what is ours in a folder whose files are being replaced; a killed process leaves it behind."""
TOOL = "crowdselect"
REPORT = "report.html"
"""The page's name in a selection's folder."""

# What 0.1.0, whose manifests list nothing, wrote into folders of each kind, whatever its options.
_FORMER = {
    "selection": ("README.md", REPORT, "selection.parquet"),
    "evaluation": ("answers.jsonl", "baseline_answers.jsonl", "judgments.jsonl", "result.json"),
    "training": (
        *("README.md", "loss.png", "selection.json", "train_log.jsonl"),
        *("config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"),
        *(
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "merges.txt",
        ),
        *("tokenizer.model", "spiece.model", "model.safetensors", "model.safetensors.index.json"),
        *("adapter_config.json", "adapter_model.safetensors"),
        *("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    ),
}
_FORMER_TRAINER = {"trl": ("trl.sh",), "llamafactory": ("dataset_info.json", "llamafactory.yaml")}
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def read_manifest(folder: Path, name: str = MANIFEST) -> dict[str, Any] | None:
    """A finished result's manifest.

    Args:
        folder: A folder.
        name: The manifest's file name.

    Returns:
        The manifest, or None where there is none of ours.

    Example:
        >>> read_manifest(Path("no-such-folder")) is None
        True
    """
    try:
        manifest = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):  # ValueError: not JSON
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("tool") == TOOL else None


def write_manifest(folder: Path, facts: Mapping[str, Any], name: str = MANIFEST) -> None:
    """Write a manifest that lists every file of its folder; it is written last.

    Args:
        folder: A folder that holds all other files of a result, and nothing else.
        facts: Its other entries.
        name: The manifest's file name.
    """
    # In ASCII: a path may hold bytes that are no UTF-8, and names characters that turn text round.
    text = json.dumps({**facts, "written": sorted({*files_in(folder), name})}, indent=2)
    (folder / name).write_text(text + "\n", encoding="ascii")


def files_in(folder: Path) -> list[str]:
    """Every file below a folder, relative to it, with `/`; links are files and are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def own_files(folder: Path, name: str = MANIFEST) -> set[str]:
    """Say which files of a folder are ours to replace or to remove.

    Args:
        folder: A folder.
        name: The manifest's file name.

    Returns:
        Relative paths, with `/`; none leads out of the folder, whatever the manifest says. Empty where there is
        no manifest of ours. `files` in a manifest are those of the pool and never ours.

    Example:
        >>> own_files(Path("no-such-folder"))
        set()
    """
    own: set[str] = set()
    for place in (name, UNFINISHED):
        manifest = read_manifest(folder, place)
        if manifest is not None:
            own |= {place, *_listed(manifest, folder)}
    return {one for one in own if _stays_inside(folder, one)}


def is_ours(folder: Path, name: str = MANIFEST) -> bool:
    """Whether a folder holds a result of ours, or what is left of one that was being replaced."""
    return any(read_manifest(folder, place) is not None for place in (name, UNFINISHED))


def in_the_way(folder: Path, names: Iterable[str], name: str = MANIFEST) -> str | None:
    """Find a file that is not ours where one of ours is to be written.

    Args:
        folder: A folder; it may be missing.
        names: Relative paths that are to be written.
        name: The manifest's file name.

    Returns:
        The first such file, relative to the folder; None where the way is free.
    """
    own = own_files(folder, name)
    for wanted in sorted(names):
        path = PurePosixPath(wanted)
        for above in reversed(path.parents[:-1]):
            place = folder / above
            if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
                if above.as_posix() not in own:
                    return above.as_posix()
                break
        place = folder / path
        if os.path.lexists(place) and (wanted not in own or (place.is_dir() and not place.is_symlink())):
            return wanted
    return None


def _listed(manifest: Mapping[str, Any], folder: Path) -> set[str]:
    written = manifest.get("written")
    if isinstance(written, list):
        return {one for one in written if isinstance(one, str)}
    kind, export = manifest.get("kind"), manifest.get("export")
    found = set(_FORMER.get(kind, ())) if isinstance(kind, str) else set()
    if kind == "training" and folder.is_dir():
        found |= {one.name for one in folder.iterdir() if _SHARD.fullmatch(one.name)}
    if kind == "selection" and isinstance(export, dict):
        file, trainer = export.get("file"), export.get("trainer")
        found |= {file} if isinstance(file, str) else set()
        found |= set(_FORMER_TRAINER.get(trainer, ())) if isinstance(trainer, str) else set()
    return found


def _stays_inside(folder: Path, name: str) -> bool:
    """A manifest is data: what it lists may be anything."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        return False
    if os.name == "nt" and ("\\" in name or ":" in name):
        return False
    return not any((folder / above).is_symlink() for above in path.parents[:-1])
