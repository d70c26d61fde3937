"""Models that the paths of files name: the name of the file, that of a folder on the way to it, or a folder `model=NAME`."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from crowdselect.errors import InputError
from crowdselect.names import read_name

MODEL_FROM = re.compile(r"file|folder(?::([1-9][0-9]?))?")
"""What `model_from` may be: `folder:2` is the second level of folders below the path."""
_HIVE = re.compile(r"([A-Za-z_]\w*)=(.+)")
_SHOWN = 3  # names that a message gives as examples
_ENDINGS = (
    *(".gz", ".zst"),
    *(".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".feather"),
)


@dataclass(frozen=True, slots=True)
class Named:
    """What may be named as the models are: files or folders, and how these are called."""

    what: Literal["file", "folder"]
    names: tuple[str, ...] = ()
    """None where several levels of folders may be meant."""

    @property
    def examples(self) -> str:
        """The first names in brackets, after a space; nothing where there are none."""
        return f" ({_listed(self.names)})" if self.names else ""


FILES = Named("file")
"""Files, where there is but one."""


def models_of(
    files: Sequence[Path], path: str, place: Path | None, model_from: str | None
) -> list[str | None]:
    """The model that each file's path names: by `model_from`, or by a folder `model=NAME`; None where it names none.

    Args:
        files: The files.
        path: What the user typed: levels of folders are counted from there, in a glob from its first `*`.
        place: The folder on this machine, where it is one.
        model_from: None, or what `MODEL_FROM` matches.

    Raises:
        InputError: The folders differ at several levels, or a file lies in no folder of the level.

    Example:
        >>> models_of([Path("crowd/model=qwen-7b/part.parquet")], "crowd", Path("crowd"), None)
        ['qwen-7b']
        >>> models_of([Path(f"r/{m}/math/0.jsonl") for m in ("ash", "oak")], "r/*/math/*", None, "folder")
        ['ash', 'oak']
    """
    if model_from == "file":
        found = [_stem(file) for file in files]
        named = named_in(files)
        if len(set(found)) == 1 and named.what == "folder":
            raise InputError(
                f"{path}: all {len(files)} files have one name, {found[0]!r}, and would be answers of one model; take the model "
                f"from their folders with `model_from='folder'`, or name the one model with `model={found[0]!r}`"
            )
        return list(found)
    base = place or _literal(path)
    inside = [file.relative_to(base).parts[:-1] if file.is_relative_to(base) else () for file in files]
    if model_from is not None:
        given = MODEL_FROM.fullmatch(model_from)
        return list(_folders(files, inside, path, None if given is None or not given[1] else int(given[1])))
    return [_hive(parts) for parts in inside]


def _hive(parts: Sequence[str]) -> str | None:
    named = [match[2] for match in map(_HIVE.fullmatch, parts) if match is not None and match[1] == "model"]
    return unquote(named[-1]) if named else None


def _folders(
    files: Sequence[Path], inside: Sequence[tuple[str, ...]], path: str, level: int | None
) -> list[str]:
    """The names of the folders at a level below the path, or where none is named at the one that differs."""
    deepest = max(map(len, inside))
    if level is None:
        differing = _differing(inside)
        if not differing and deepest <= 1:
            return [file.parent.name for file in files]
        if len(differing) != 1:
            levels = differing or list(range(deepest))
            shown = "; ".join(
                f"{at + 1} ({_listed([parts[at] for parts in inside if len(parts) > at])})" for at in levels
            )
            at = f"`model_from='folder:{levels[0] + 1}'`"
            if differing:
                raise InputError(
                    f"{path}: the folders differ at several levels: {shown}; say which level names the model, as with {at}"
                )
            raise InputError(
                f"{path}: several folders may be the model: {shown}; name it with `model='NAME'`, or say which level does, as "
                f"with {at}"
            )
        level = differing[0] + 1
    short = next((file for file, parts in zip(files, inside, strict=True) if len(parts) < level), None)
    if short is not None:
        raise InputError(
            f"{short}: lies in no folder of level {level} below {path}, which would name the model; open the others alone with "
            "a glob, or move it"
        )
    return [parts[level - 1] for parts in inside]


def _differing(inside: Sequence[tuple[str, ...]]) -> list[int]:
    """The levels at which the folders of files differ, from 0."""
    deepest = max(map(len, inside))
    return [at for at in range(deepest) if len({parts[at : at + 1] for parts in inside}) > 1]


def named_in(files: Sequence[Path]) -> Named:
    """Say what may be named as the models are.

    Folders, where the files have one name, or numbers, in several of them, or where a name returns in several of them and
    more of the folders say a size, as `qwen-7b` does; else files.

    Example:
        >>> named_in([Path("runs/ash-1b/0.jsonl"), Path("runs/oak-7b/0.jsonl")])
        Named(what='folder', names=('ash-1b', 'oak-7b'))
        >>> named_in([Path("runs/ash-1b.jsonl")]).what
        'file'
    """
    stems = dict.fromkeys(map(_stem, files))
    base = os.path.commonpath([file.parent for file in files])
    inside = [file.parent.relative_to(base).parts for file in files]
    levels = _differing(inside) if any(inside) else []
    if levels:
        folders = [tuple(dict.fromkeys(parts[at] for parts in inside if len(parts) > at)) for at in levels]
        alike = len(stems) == 1 or all(stem.isdecimal() for stem in stems)
        returns = len({(_stem(file), parts) for file, parts in zip(files, inside, strict=True)}) > len(stems)
        if alike or (returns and max(map(_sized, folders)) > _sized(stems)):
            return Named("folder", folders[0] if len(folders) == 1 else ())
    return Named("file", tuple(stems))


def _sized(names: Sequence[str] | dict[str, None]) -> float:
    """The share of some names that say the size of a model."""
    return sum(read_name(name)[1] is not None for name in names) / len(names)


def _listed(names: Sequence[str]) -> str:
    own = list(dict.fromkeys(names))
    return ", ".join(own[:_SHOWN]) + (", ..." if len(own) > _SHOWN else "")


def _literal(path: str) -> Path:
    """The folder that a path begins with: all before the first part that is a pattern, without the file."""
    parts = Path(path).parts
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[: min(first, len(parts) - 1)])


def _stem(file: Path) -> str:
    """The name of a file without what says its type; a model's name may hold dots."""
    name = file.name
    for ending in _ENDINGS:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name
