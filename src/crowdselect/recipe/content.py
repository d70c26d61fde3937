"""What an option or a file is, whatever it is called and wherever it lies: what the keys of steps are made of."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.recipe.commands import ARGUMENTS, HOW, options_of
from crowdselect.recipe.graph import Step

VERSIONS: dict[str, int] = {}
"""Section → version of what its command computes, where that is not 1: a new one makes its steps anew."""

_PREFIX = re.compile(r"(file|hf|import|judge|python):(?!//)(.+)", re.DOTALL)
_FILES = re.compile(r"FILE|PATH|DIR|FOLDER|POOL")
_SURELY = re.compile(r"FILE(\\.[a-z]+)?")
_HIDDEN = "."


class Digests:
    """SHA-256 of files and folders; each file is read once in a process.

    Args:
        folder: Where relative paths begin.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int, int], str] = {}

    def file(self, path: Path) -> str:
        """Hash what is in a file."""
        found = path.stat()
        key = (os.fspath(path.resolve()), found.st_size, found.st_mtime_ns)
        if key not in self._known:
            with path.open("rb") as stream:
                self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._known[key]

    def path(self, path: Path) -> str:
        """Hash a file, or a folder with the names of the files in it; hidden ones are no part of it."""
        if path.is_file():
            return self.file(path)
        inside = sorted(
            (str(one.relative_to(path)), one)
            for one in path.rglob("*")
            if one.is_file() and not any(part.startswith(_HIDDEN) for part in one.relative_to(path).parts)
        )
        return digest([[name, self.file(one)] for name, one in inside])

    def data(self, path: str | Path) -> str:
        """Hash the data files of a pool or of instructions, whatever they are called; a data set elsewhere is its name.

        Raises:
            InputError: There is no such file.
        """
        from crowdselect.pool.files import is_remote, resolve

        if is_remote(str(path)):
            return digest(str(path))
        files, _ = resolve(str(self._folder / path))
        return self.together(files)

    def training(self, path: str | Path) -> str:
        """Hash the rows to train on: of a folder of `select` its training file.

        Raises:
            OptionError: It is not there.
        """
        place = self._folder / path
        if not place.exists():
            raise OptionError(f"there is no {str(place)!r}; wanted a folder of `select`, or a training file")
        files = sorted(place.glob("train.*")) if place.is_dir() else [place]
        return self.together(files) if files else self.path(place)

    def together(self, files: Iterable[Path]) -> str:
        """Hash some files, whatever their names and order."""
        return digest(sorted(self.file(file) for file in files))

    def value(self, option: click.Option, name: str, value: Any) -> Any:  # noqa: ANN401  (what click made of it)
        """Give what an option means: its value, and the content of what it names.

        Args:
            option: Of the command.
            name: Its name in a recipe.
            value: One value, or several.

        Raises:
            OptionError: A file that must be there is not.
        """
        if isinstance(value, tuple | list):
            return [self.value(option, name, one) for one in value]
        if not isinstance(value, str):
            return value
        kind = option.metavar or ""
        match = _PREFIX.fullmatch(value)
        target = match[2] if match else value
        if match and match[1] == "python":
            return [value, self._module(target)]
        found = self._named(target, role=name)
        if found is None:
            if _SURELY.fullmatch(kind) and "://" not in value:
                raise OptionError(f"there is no file {str(self._folder / value)!r}")
            return value
        return found if _FILES.search(kind) else [value, found]

    def _named(self, target: str, *, role: str) -> Any:  # noqa: ANN401  (plain values)
        """Give the content of what a text names: a path, or an entry of a crowd file; None = no path."""
        place = self._folder / target
        if target.strip() and place.exists():
            return self._crowd(place) if role == "crowd" and place.suffix == ".toml" else self.path(place)
        file, sign, part = target.rpartition("#")
        if not sign or not (self._folder / file).is_file():
            return None
        if not file.endswith(".toml"):
            return [self.file(self._folder / file), part]
        return self._endpoint(self._folder / file, part, role=role)

    def _crowd(self, path: Path) -> Any:  # noqa: ANN401  (plain values)
        """Give what of a crowd changes answers, and what says family and size: not prices, limits, hosts."""
        from crowdselect.ask.endpoints import load_endpoints
        from crowdselect.crowd import Crowd

        members = [[one.name, one.family, one.size_b] for one in Crowd.from_file(path).members]
        return [members, [one.digest.hex() for one in load_endpoints(path).models]]

    def _endpoint(self, path: Path, name: str, *, role: str) -> Any:  # noqa: ANN401  (plain values)
        from crowdselect.ask.endpoints import load_endpoints

        found = load_endpoints(path)
        either = (
            (*found.judges, *found.models) if role in {"judge", "with"} else (*found.models, *found.judges)
        )
        own = next((one for one in either if one.name == name), None)
        if own is None:
            listed = ", ".join(one.name for one in either)
            raise OptionError(f"{path} has no {name!r}; there are: {listed or 'none'}")
        return own.digest.hex()

    def _module(self, target: str) -> str | None:
        """Hash the file of a function, where it lies beside the recipe."""
        file = self._folder / (target.rpartition(":")[0].replace(".", "/") + ".py")
        return self.file(file) if file.is_file() else None


def meaning(step: Step, digests: Digests) -> dict[str, Any]:
    """Give what a step's options are: all that decides its result beside its inputs.

    Raises:
        InputError: A file that an option names is not there, or broken.
        OptionError: The same, or the command would refuse an option.
    """
    options, found = options_of(step.section), {}
    for name, value in step.values().items():
        try:
            if name == ARGUMENTS.get(step.section):
                found[name] = digests.training(value) if name == "data" else digests.data(value)
            elif name in options and name not in HOW and not _is_unset(value):
                found[name] = digests.value(options[name], name, value)
        except CrowdselectError as error:
            raise OptionError(f"{step.where}: {name}: {error}") from error
        except OSError as error:
            raise OptionError(f"{step.where}: {name}: {value}: cannot be read: {error.strerror}") from error
    return found


def _is_unset(value: object) -> bool:
    """Whether an option is not in use: one that a later version adds does not make every step anew."""
    return value is None or value is False or value == ()


def key_of(step: Step, inputs: Sequence[Any], digests: Digests) -> str:
    """Give a step's key: equal keys give equal results.

    Args:
        step: The step.
        inputs: What its inputs are, with their roles, in order.
        digests: Reads files.

    Returns:
        64 hexadecimal digits.
    """
    made = {
        "section": step.section,
        "version": VERSIONS.get(step.section, 1),
        "options": meaning(step, digests),
        "inputs": inputs,
        "against": step.against,
    }
    return digest(made)


def digest(value: object) -> str:
    """Hash plain values.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
