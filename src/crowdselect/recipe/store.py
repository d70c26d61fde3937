"""The folder of a recipe's results: a folder per step, named by its key, and one run at a time.

A key is computed from the content of options and files, whatever their names and paths.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect.cli.entry import MISSING
from crowdselect.errors import CrowdselectError, OptionError, OutputError
from crowdselect.recipe.graph import MEASURED, Input, Step
from crowdselect.recipe.reading import ARGUMENTS, HOW, options_of

VERSIONS: dict[str, int] = {}
"""Section → version of what its command computes, if not 1: with a new version its steps are run again."""

_PREFIX = re.compile(r"(file|hf|ifd|import|judge|python):(?!//)(.+)", re.DOTALL)
_FILES = re.compile(r"FILE|PATH|DIR|FOLDER|POOL")
_SURELY = re.compile(r"FILE(\|DIR)?")
_HIDDEN = "."
STEP = "step.json"
LOG = "log.txt"
SAID = "said.json"
_MARK = ".crowdselect-run"
_BY_KEY = frozenset(
    {"train", "compare"}
)  # their output may differ between runs, so later steps use the key instead of its hash
_SHORT = 8


class Digests:
    """Computes SHA-256 of files and folders; each file is read once per process.

    Args:
        folder: The folder that relative paths start from.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int, int], str] = {}

    def file(self, path: Path) -> str:
        """Hash a file's content."""
        found = path.stat()
        key = (os.fspath(path.resolve()), found.st_size, found.st_mtime_ns)
        if key not in self._known:
            with path.open("rb") as stream:
                self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._known[key]

    def path(self, path: Path) -> str:
        """Hash a file, or a folder's files with their names; hidden ones are ignored."""
        if path.is_file():
            return self.file(path)
        inside = sorted(
            (str(one.relative_to(path)), one)
            for one in path.rglob("*")
            if one.is_file() and not any(part.startswith(_HIDDEN) for part in one.relative_to(path).parts)
        )
        return digest([[name, self.file(one)] for name, one in inside])

    def data(self, path: str | Path) -> str:
        """Hash the data files of a pool or of instructions, whatever their names; for a remote data set, hash its name.

        Raises:
            InputError: There is no such file.
        """
        from crowdselect.pool.files import is_remote, resolve

        if is_remote(str(path)):
            return digest(str(path))
        files, _ = resolve(str(self._folder / path))
        return self.together(files)

    def training(self, path: str | Path) -> str:
        """Hash the training rows: a training file, or that of a folder of `select`.

        Raises:
            OptionError: There is no such file or folder.
        """
        place = self._folder / path
        if not place.exists():
            raise OptionError(f"there is no {str(place)!r}; wanted a folder of `select`, or a training file")
        files = sorted(place.glob("train.*")) if place.is_dir() else [place]
        return self.together(files) if files else self.path(place)

    def together(self, files: Iterable[Path]) -> str:
        """Hash some files, whatever their names and order."""
        return digest(sorted(self.file(file) for file in files))

    def value(self, kind: str, name: str, value: Any) -> Any:  # noqa: ANN401  (what click made of it)
        """Return the meaning of an option for a key: its value, and the content of the file that it names.

        Args:
            kind: What the option takes, as its help shows it.
            name: Its name in a recipe.
            value: One value, or several.

        Raises:
            OptionError: A required file is missing.
        """
        from crowdselect.numeric.responses import fits_of

        if isinstance(value, tuple | list):
            several = [self.value(kind, name, one) for one in value]
            return several[0] if name == "baseline" and len(several) == 1 else several
        if not isinstance(value, str):
            return value
        match = _PREFIX.fullmatch(value)
        target = match[2] if match else value
        fits = fits_of(value) if name == "answer" else None
        target = target if fits is None else fits.model
        if match and match[1] == "python":
            return [value, self._module(target)]
        if name == "baseline" and not (self._folder / value).exists():
            target = value.rpartition("=")[2]  # without its category
        found = self._named(target, role=name)
        if found is None:
            if _SURELY.fullmatch(kind) and "://" not in value:
                raise OptionError(f"there is no file {str(self._folder / value)!r}")
            return value
        what = found if _FILES.search(kind) else [value, found]
        return what if name != "baseline" or target == value else [value.removesuffix(target), found]

    def _named(self, target: str, *, role: str) -> Any:  # noqa: ANN401  (plain values)
        """Hash what a text names, a path or an entry of a crowd file; None = neither."""
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
        """Return the parts of a crowd file that change results: settings, family and size, who is a student; not prices, hosts."""
        from crowdselect.ask.endpoints import load_endpoints
        from crowdselect.crowd import Crowd

        found = load_endpoints(path)
        crowd = Crowd.from_file(path).members if found.models else ()
        members = [[one.name, one.family, one.size_b] for one in crowd]
        students = [[one.name, one.digest.hex()] for one in found.students]
        return [members, [one.digest.hex() for one in found.models], *([students] if students else [])]

    def _endpoint(self, path: Path, name: str, *, role: str) -> Any:  # noqa: ANN401  (plain values)
        from crowdselect.ask.endpoints import load_endpoints

        found = load_endpoints(path)
        either = (
            (*found.judges, *found.answering)
            if role in {"judge", "with"}
            else (*found.answering, *found.judges)
        )
        own = next((one for one in either if one.name == name), None)
        if own is None:
            listed = ", ".join(one.name for one in either)
            raise OptionError(f"{path} has no {name!r}; there are: {listed or 'none'}")
        wishes = [own.default_temperature, own.logprobs]  # of what a command sends by itself
        return own.digest.hex() if wishes == [False, None] else [own.digest.hex(), *wishes]

    def _module(self, target: str) -> str | None:
        """Hash the file of a function if it is beside the recipe; None otherwise."""
        file = self._folder / (target.rpartition(":")[0].replace(".", "/") + ".py")
        return self.file(file) if file.is_file() else None


def meaning(step: Step, digests: Digests) -> dict[str, Any]:
    """Return the meaning of a step's options: everything that decides its result besides its inputs.

    Raises:
        InputError: A file that an option names is missing or broken.
        OptionError: The same, or the command would refuse an option.
    """
    options, meanings = options_of(step.section), {}
    for name, value in step.values().items():
        try:
            if name == ARGUMENTS.get(step.section):
                meanings[name] = digests.training(value) if name == "data" else digests.data(value)
            elif name in options and name not in HOW and not _is_unset(value):
                meanings[name] = digests.value(options[name].metavar or "", name, value)
        except CrowdselectError as error:
            raise OptionError(f"{step.where}: {name}: {error}") from error
        except OSError as error:
            raise OptionError(f"{step.where}: {name}: {value}: cannot be read: {error.strerror}") from error
    return meanings


def _is_unset(value: object) -> bool:
    """Return whether an option is unset; these are left out, so that a new option does not change all keys."""
    return value is None or value is False or value == ()


def key_of(step: Step, inputs: Sequence[Any], digests: Digests) -> str:
    """Compute a step's key: equal keys mean equal results.

    Args:
        step: The step.
        inputs: The meaning of its inputs, with their roles, in order.
        digests: Reads files.

    Returns:
        64 hexadecimal digits.
    """
    parts = {
        "section": step.section,
        "version": VERSIONS.get(step.section, 1),
        "options": meaning(step, digests),
        "inputs": inputs,
        "against": step.against,
    }
    return digest(parts)


def digest(value: object) -> str:
    """Hash plain values.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Done:
    """A finished step.

    Attributes:
        folder: Its folder.
        output: The name of its output in there.
        digest: Represents the output in the keys of later steps.
        code: Exit code: 0, or `MISSING`.
        seconds: Duration.
    """

    folder: Path
    output: str
    digest: str
    code: int
    seconds: float

    @property
    def path(self) -> Path:
        """The output."""
        return self.folder / self.output


class Store:
    """The results of steps in a folder.

    Args:
        folder: The folder of the results.
        digests: Reads files.
    """

    def __init__(self, folder: Path, digests: Digests) -> None:
        self.folder = folder
        self._digests = digests
        self._keys: dict[Step, str] = {}
        self._done: dict[str, Done] = {}

    def key(self, step: Step) -> str | None:
        """Return a step's key; None while a step that it needs is not done."""
        if step in self._keys:
            return self._keys[step]
        inputs = []
        for one in step.inputs:
            found = self._meaning(step, one)
            if found is None:
                return None
            inputs.append([one.role, one.label if one.role == "folder" else "", found])
        self._keys[step] = key_of(step, inputs, self._digests)
        return self._keys[step]

    def _meaning(self, step: Step, given: Input) -> Any:  # noqa: ANN401  (plain values)
        """Return the meaning of an input for the key; None = it does not exist yet."""
        source = given.source
        if isinstance(source, Step):
            done = self.done(source)
            if done is None:
                return None
            return [self._keys[source], done.digest] if step.section.endswith("compare") else done.digest
        if given.role == "not":
            return self._digests.training(source)
        if given.role in MEASURED:
            return self._digests.value("FOLDER", "model", source)
        return self._digests.data(source)

    def done(self, step: Step) -> Done | None:
        """Return a step's result; None if it is not finished."""
        key = self.key(step)
        if key is None:
            return None
        if key not in self._done:
            found = _read(self.place(step), key)
            if found is None:
                return None
            self._done[key] = found
        return self._done[key]

    def todo(self, steps: Iterable[Step]) -> list[Step]:
        """Return the steps to run: those without a result, and those with something missing."""
        return [step for step in steps if not self.is_whole(step)]

    def is_whole(self, step: Step) -> bool:
        """Return whether a step has a result with nothing missing."""
        done = self.done(step)
        return done is not None and done.code != MISSING

    def place(self, step: Step) -> Path:
        """Return the folder of a step with a known key; an existing one is found by key, whatever its title was."""
        key = self.key(step)
        assert key is not None  # noqa: S101  (the caller has asked)
        steps = self.folder / "steps"
        found = sorted(steps.glob(f"*-{key[:_SHORT]}")) if steps.is_dir() else []
        return found[0] if found else steps / f"{slug(step.title)}-{key[:_SHORT]}"

    def begin(self, step: Step) -> Path:
        """Create a step's folder, and delete partial files of a killed process."""
        folder = self.place(step)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STEP).unlink(missing_ok=True)
        self._done.pop(self._keys[step], None)
        for partial in folder.glob(".*.partial-*"):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        return folder

    def finish(self, step: Step, *, code: int, seconds: float) -> Done:
        """Record that a step is done; this file is written last, so its presence means complete."""
        folder, key = self.place(step), self._keys[step]
        record = {
            "key": key,
            "title": step.title,
            "section": step.section,
            "output": step.output,
            "digest": self._digest(step, folder / step.output),
            "code": code,
            "seconds": round(seconds, 1),
        }
        partial = folder / f".{STEP}.partial-{os.getpid()}"
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="ascii")
        partial.replace(folder / STEP)
        found = _read(folder, key)
        if found is None:
            raise OutputError(
                f"{folder / step.output}: is not there, although the command ended well; see {folder / LOG}"
            )
        self._done[key] = found
        return found

    def _digest(self, step: Step, output: Path) -> str:
        if not output.exists() or step.section in _BY_KEY or step.section.startswith("evaluate."):
            return self._keys[step]
        return self._digests.training(output) if output.is_dir() else self._digests.together([output])


def _read(folder: Path, key: str) -> Done | None:
    try:
        record = json.loads((folder / STEP).read_text(encoding="ascii"))
        found = Done(folder, record["output"], record["digest"], record["code"], record["seconds"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None  # not finished, or broken: the step is run again
    return found if record["key"] == key and found.path.exists() else None


def slug(title: str) -> str:
    """Make a folder name from a title.

    Example:
        >>> slug("select budget 250, weights a -1")
        'select-budget-250-weights-a--1'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else " " for c in title)
    return "-".join(kept.split())[:60].strip(".") or "step"


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Lock a folder of results for one run; it is created if missing.

    Args:
        folder: The folder.

    Yields:
        The file descriptor of its lock. A process that inherits it holds the lock too, so that no second run starts
        while a step of a killed run is still running.

    Raises:
        OutputError: It is in use, is not a folder of results, or cannot be created.
    """
    from filelock import lock_descriptor

    check_place(folder)
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be used: {error.strerror or error}") from error
    try:
        if not lock_descriptor(handle, blocking=False):
            holder = os.read(handle, 100).decode("ascii", "replace") or "another run"
            raise OutputError(f"{folder}: in use by {holder}; wait until it ends, or end it")
        if not (folder / _MARK).exists():
            raise OutputError(f"{folder}: another run has just ended there; run the recipe again")
        say_who(handle, os.getpid(), "crowdselect run")
        try:
            yield handle
        finally:
            _leave(folder)
    finally:
        os.close(handle)


def _leave(folder: Path) -> None:
    """Remove a folder in which no step was started."""
    if [one.name for one in folder.iterdir()] == [_MARK]:
        (folder / _MARK).unlink()
        folder.rmdir()


def say_who(handle: int, number: int, what: str) -> None:
    """Write into the lock file which process to wait for."""
    text = f"process {number} ({what})".encode("ascii", "replace")[:100]
    os.ftruncate(handle, 0)
    os.pwrite(handle, text, 0)


def check_place(folder: Path) -> None:
    """Refuse a folder that is not a recipe's.

    Raises:
        OutputError: It is a file, or has anything but a recipe's results; or its parent is missing.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {folder.parent}; make it first")
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder}: this is not a folder; name another `output`")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise OutputError(
            f"{folder}: the folder holds other things than a recipe's results; name another `output`"
        )
