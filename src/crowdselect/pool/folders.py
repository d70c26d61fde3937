"""Which files of a folder are the data: of a data set of the Hub, of `save_to_disk`, of a hive of folders; train only.

A test split is never read unasked.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from crowdselect.errors import InputError
from crowdselect.pool.howread import HowRead

DESCRIPTIONS = ("README.md", "state.json", "dataset_dict.json")
"""Files that say how a data set is laid out."""

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORD = r"(?:^|[-_./ =])(?:{})(?=$|[-_./ ]|\d)"
_PATTERNS = {
    split: re.compile(_WORD.format("|".join(words)), re.IGNORECASE) for split, words in _SPLITS.items()
}
_SHARD = re.compile(r"(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.")
"""A file of the Hub is named by its split, whatever that is called."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some files of a data set, and which they are."""

    subset: str | None
    split: str
    patterns: tuple[str, ...]
    default: bool = False
    """Its subset is the one that is meant where none is named."""


def data_files(
    folder: Path, files: Sequence[Path], below: Sequence[Path], how: HowRead
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Take the files of one split of one subset.

    Args:
        folder: Where they lie.
        files: Its data files, in the order of their names.
        below: Those of its subfolders too.
        how: `subset` and `split` name others than the default and train.

    Returns:
        The files, and what is to be said about them.

    Raises:
        InputError: There is no such subset or split, or none is train.
    """
    saved = _saved(folder, how)
    if saved is not None:
        return saved
    parts = readme_parts(folder / "README.md")
    if parts:
        return _configured(folder, below, parts, how)
    return _by_name(folder, files, how)


def _saved(folder: Path, how: HowRead) -> tuple[tuple[Path, ...], tuple[str, ...]] | None:
    """The files of a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote; None where it is none."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        split = _wanted(splits, how, folder)
        inner = _saved(folder / split, how)
        others = [name for name in splits if name != split]
        note = f"only the split {split} is read, not {', '.join(others)}" if others else ""
        return None if inner is None else (inner[0], (note,) if note else ())
    state = folder / "state.json"
    if not state.is_file():
        return None
    names = [entry["filename"] for entry in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    missing = next((name for name in names if not (folder / name).is_file()), None)
    if missing is not None:
        raise InputError(f"{folder}: state.json names {missing}, which is not there; copy the folder again")
    return tuple(folder / name for name in names), ()


def _wanted(splits: Iterable[str], how: HowRead, folder: Path) -> str:
    known = list(splits)
    if how.split is not None:
        same = [name for name in known if _split_of(name) == (_split_of(how.split) or how.split)]
        if how.split not in known and len(same) != 1:
            raise InputError(f"{folder}: no split {how.split!r}; found {', '.join(known)}")
        return how.split if how.split in known else same[0]
    found = [name for name in known if name == "train"] or [
        name for name in known if _split_of(name) == "train"
    ]
    if len(found) != 1:
        several = "several splits are train" if found else "no split is train"
        raise InputError(
            f"{folder}: {several}; found {', '.join(known)}; name the one to read with `split={(found or known)[0]}`"
        )
    return found[0]


def _configured(
    folder: Path, files: Sequence[Path], parts: Sequence[Part], how: HowRead
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    subsets = list(dict.fromkeys(part.subset for part in parts))
    subset = how.subset
    if subset is None:
        marked = [part.subset for part in parts if part.default]
        subset = "default" if "default" in subsets else (marked or subsets)[0]
        if not marked and "default" not in subsets and len(subsets) > 1:
            raise InputError(
                f"{folder}: several subsets: {', '.join(map(str, subsets))}; name one with `subset={subsets[0]}`"
            )
    if subset not in subsets:
        raise InputError(f"{folder}: no subset {subset!r}; found {', '.join(map(str, subsets))}")
    mine = [part for part in parts if part.subset == subset]
    split = _wanted(dict.fromkeys(part.split for part in mine), how, folder)
    patterns = [pattern for part in mine if part.split == split for pattern in part.patterns]
    found = tuple(file for file in files if any(_matches(file, folder, pattern) for pattern in patterns))
    if not found:
        raise InputError(
            f"{folder}: README.md names {', '.join(patterns)} for {split}, and no such file is there"
        )
    left = [part.split for part in mine if part.split != split] + [
        f"subset {s}" for s in subsets if s != subset
    ]
    note = f"only the split {split} is read" + (f", not {', '.join(dict.fromkeys(left))}" if left else "")
    return found, (note,) if left else ()


def _matches(file: Path, folder: Path, pattern: str) -> bool:
    inside = file.relative_to(folder).as_posix()
    wanted = str(PurePosixPath(pattern))
    return (
        fnmatch(inside, wanted)
        or fnmatch(inside, f"{wanted}/*")
        or fnmatch(inside, wanted.replace("**/", ""))
    )


def _split_of(name: str) -> str | None:
    return next((split for split, pattern in _PATTERNS.items() if pattern.search(name)), None)


def _nameless(file: Path) -> str:
    """A path without its folders `model=NAME`: what a model is called says nothing of the split."""
    return "/".join(part for part in file.parts if not part.startswith("model="))


def _by_name(folder: Path, files: Sequence[Path], how: HowRead) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Tell splits apart by the names of files and folders, as the Hub does."""
    if how.subset is not None:
        own = [file for file in files if how.subset in file.relative_to(folder).parts[:-1]]
        if not own:
            raise InputError(f"{folder}: no subset {how.subset!r}: no folder of that name holds data")
        files = own
    shards = {file: match["split"] for file in files if (match := _SHARD.match(file.name)) is not None}
    if len(shards) == len(files) and any(map(_split_of, shards.values())) and how.model_from is None:
        split = _wanted(dict.fromkeys(shards.values()), how, folder)
        left = [name for name in dict.fromkeys(shards.values()) if name != split]
        note = f"only the split {split} is read, not {', '.join(left)}"
        return tuple(file for file, own in shards.items() if own == split), (note,) if left else ()
    splits = {file: _split_of(_nameless(file.relative_to(folder))) for file in files}
    known = list(dict.fromkeys(split for split in splits.values() if split is not None))
    if how.split is not None:
        found = tuple(file for file, split in splits.items() if split == (_split_of(how.split) or how.split))
        if not found:
            raise InputError(
                f"{folder}: no split {how.split!r}; found {', '.join(known) or 'files of no split'}"
            )
        return found, ()
    others = [split for split in known if split != "train"]
    if not others or how.model_from is not None:
        return tuple(files), ()
    taken = tuple(file for file, split in splits.items() if split in {"train", None})
    if not taken:
        raise InputError(
            f"{folder}: holds files of {' and '.join(others)} only, which are not read unasked; name one with "
            f"`split={others[0]}`"
        )
    return taken, (f"only the split train is read, not {', '.join(others)}",)


def readme_parts(readme: Path) -> list[Part]:
    """Read the `configs:` of a data set's README; none where it has none.

    Of YAML only the forms that the Hub documents are read: a list of `config_name` and `data_files`, and these a path,
    a list of paths, or a list of `split` and `path`.
    """
    if not readme.is_file():
        return []
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return []
    block: list[str] = []
    inside = False
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if inside and line and not line.startswith((" ", "-", "#")):
            break
        if inside and line.strip() and not line.lstrip().startswith("#"):
            block.append(line)
        inside = inside or line.startswith("configs:")
    value = _yaml(block) if block else []
    return [part for config in value if isinstance(config, dict) for part in _parts_of(config)]


def _parts_of(config: dict[str, Any]) -> list[Part]:
    subset, files = config.get("config_name", "default"), config.get("data_files")
    default = str(config.get("default", "")).lower() == "true"
    folder = config.get("data_dir")
    if files is None:
        return [Part(subset, "train", (f"{folder}/*",), default)] if folder else []
    if isinstance(files, str):
        files = [files]
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    plain = tuple(name for name in files if isinstance(name, str))
    parts = [Part(subset, "train", plain, default)] if plain else []
    for entry in files:
        if isinstance(entry, dict):
            path = entry.get("path") or []
            paths = (path,) if isinstance(path, str) else tuple(path)
            parts.append(Part(subset, str(entry.get("split", "train")), paths, default))
    return parts


def _yaml(lines: Sequence[str]) -> Any:  # noqa: ANN401  (lists, dictionaries and texts)
    """Read nested lists and mappings of texts, by indentation."""
    first = lines[0]
    depth = len(first) - len(first.lstrip())
    if first.lstrip().startswith("- ") or first.strip() == "-":
        items: list[list[str]] = []
        for line in lines:
            if len(line) - len(line.lstrip()) == depth and line.lstrip().startswith("-"):
                items.append([" " * (depth + 2) + line.lstrip()[1:].lstrip()])
            else:
                items[-1].append(line)
        return [_yaml(item) if _is_nested(item) else _scalar(item[0]) for item in items]
    found: dict[str, Any] = {}
    key = ""
    inner: dict[str, list[str]] = {}
    for line in lines:
        name, colon, rest = line.strip().partition(":")
        if len(line) - len(line.lstrip()) == depth and colon and not line.lstrip().startswith("-"):
            key = name.strip().strip("\"'")
            found[key] = _scalar(rest)
            inner[key] = []
        else:
            inner[key].append(line)
    return {name: _yaml(inner[name]) if inner[name] else value for name, value in found.items()}


def _is_nested(item: Sequence[str]) -> bool:
    return len(item) > 1 or re.match(r"\s*[\w\"']+:(\s|$)", item[0]) is not None


def _scalar(text: str) -> Any:  # noqa: ANN401  (a text or a list of texts)
    bare = text.strip()
    if bare.startswith("[") and bare.endswith("]"):
        return [part.strip().strip("\"'") for part in bare[1:-1].split(",") if part.strip()]
    return bare.strip("\"'")
