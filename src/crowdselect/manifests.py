"""Which files of a folder crowdselect wrote: those that its manifest lists, and no others."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
UNFINISHED = ".crowdselect-unfinished.json"
"""Lists the files of crowdselect in a folder while they are being replaced; a killed process leaves it behind."""
TOOL = "crowdselect"
REPORT = "report.html"
"""File name of the report in a selection's folder."""

# What 0.1.0, whose manifests list no files, wrote into folders of each kind, whatever its options.
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
    """Read the manifest of a finished result.

    Args:
        folder: A folder.
        name: The manifest's file name.

    Returns:
        The manifest; None if there is none, or another tool wrote it.

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
    """Write a manifest that lists every file of its folder; call it last.

    Args:
        folder: A folder that holds all the other files of a result, and nothing else.
        facts: The manifest's other entries.
        name: The manifest's file name.
    """
    # In ASCII: a path may hold bytes that are not UTF-8, and a name characters that reverse the direction of text.
    text = json.dumps({**facts, "written": sorted({*files_in(folder), name})}, indent=2)
    (folder / name).write_text(text + "\n", encoding="ascii")


def files_in(folder: Path) -> list[str]:
    """List every file below a folder, relative to it, with `/`; links count as files and are not followed."""
    files = []
    for parent, _, names in os.walk(folder):
        files += [(Path(parent) / name).relative_to(folder).as_posix() for name in names]
    return sorted(files)


def own_files(folder: Path, name: str = MANIFEST) -> set[str]:
    """List the files of a folder that crowdselect wrote, and so may replace or remove.

    Args:
        folder: A folder.
        name: The manifest's file name.

    Returns:
        Relative paths, with `/`; none leads out of the folder, whatever the manifest says. Empty if there is
        no manifest of crowdselect. The entry `files` of a manifest lists the pool's files and never counts.

    Example:
        >>> own_files(Path("no-such-folder"))
        set()
    """
    listed: set[str] = set()
    for manifest_name in (name, UNFINISHED):
        manifest = read_manifest(folder, manifest_name)
        if manifest is not None:
            listed |= {manifest_name, *_listed(manifest, folder)}
    return {file for file in listed if _stays_inside(folder, file)}


def is_ours(folder: Path, name: str = MANIFEST) -> bool:
    """Tell whether a folder holds a result of crowdselect, or the remains of one that was being replaced."""
    return any(read_manifest(folder, manifest_name) is not None for manifest_name in (name, UNFINISHED))


def in_the_way(folder: Path, names: Iterable[str], name: str = MANIFEST) -> str | None:
    """Find a file that crowdselect did not write where it is about to write one.

    Args:
        folder: A folder; it may be missing.
        names: Relative paths to be written.
        name: The manifest's file name.

    Returns:
        The first such file, relative to the folder; None if nothing is in the way.
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
        return {file for file in written if isinstance(file, str)}
    kind, export = manifest.get("kind"), manifest.get("export")
    names = set(_FORMER.get(kind, ())) if isinstance(kind, str) else set()
    if kind == "training" and folder.is_dir():
        names |= {file.name for file in folder.iterdir() if _SHARD.fullmatch(file.name)}
    if kind == "selection" and isinstance(export, dict):
        file, trainer = export.get("file"), export.get("trainer")
        names |= {file} if isinstance(file, str) else set()
        names |= set(_FORMER_TRAINER.get(trainer, ())) if isinstance(trainer, str) else set()
    return names


def _stays_inside(folder: Path, name: str) -> bool:
    """Tell whether a listed name leads to a file inside the folder: a manifest may list anything."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() != name or "\0" in name:
        return False
    if os.name == "nt" and ("\\" in name or ":" in name):
        return False
    return not any((folder / above).is_symlink() for above in path.parents[:-1])
