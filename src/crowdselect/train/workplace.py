"""Where an unfinished run lives: its checkpoints, its log, what may go on from them, and nobody else at once."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect.errors import OptionError, OutputError
from crowdselect.locks import Held, hold
from crowdselect.writing import TOOL

LOG = "train_log.jsonl"
_RUN = "run.json"
_STATE = "trainer_state.json"
_PREFIX = "checkpoint-"
_LOCK = "lock"
_CARD = "README.md"  # TRL writes it with every checkpoint


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder `MODEL.training` beside the model to be."""

    folder: Path

    def checkpoint(self, *, processes: int) -> Path | None:
        """Find the last complete checkpoint.

        A checkpoint's state is written after everything else of it, and by each process the state of its chance
        numbers; a kill in between leaves one without.

        Args:
            processes: That train together.

        Returns:
            Its folder; None where there is none.
        """
        found = sorted(self.folder.glob(f"{_PREFIX}*"), key=_step, reverse=True)
        return next((one for one in found if _is_complete(one, processes)), None)

    def step(self, *, processes: int) -> int:
        """Tell the step of the last complete checkpoint; 0 = none."""
        last = self.checkpoint(processes=processes)
        return 0 if last is None else _step(last)

    def remove(self) -> None:
        """Remove what a run keeps there, and the folder, unless something else is in it."""
        for one in self.folder.glob(f"{_PREFIX}*"):
            if _step(one) > 0:
                shutil.rmtree(one)
        for name in (LOG, _RUN, _LOCK, _CARD):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.folder.rmdir()

    def leave(self, *, processes: int) -> None:
        """Remove what a run that ended with an error keeps there, if nothing was trained."""
        if self.step(processes=processes) == 0:
            self.remove()


def workplace(target: Path) -> Workplace:
    """Name the place of a model's unfinished run.

    Example:
        >>> workplace(Path("student")).folder.name
        'student.training'
    """
    return Workplace(target.with_name(f"{target.name}.training"))


def check_new(place: Workplace, *, processes: int) -> None:
    """Refuse a place where an unfinished run has a checkpoint.

    Raises:
        OutputError: It has; the message names its step.
    """
    step = place.step(processes=processes)
    if step > 0 and _read(place.folder / _RUN) is not None:
        raise OutputError(
            f"{place.folder}: holds a run that was stopped after step {step}; add --resume to go on with it, or remove that "
            "folder to begin anew"
        )


def occupy(place: Workplace, key: Mapping[str, Any], *, resume: bool, processes: int) -> Held:
    """Take a workplace for one run.

    Args:
        place: The place.
        key: What makes a run the same: data, base model, settings.
        resume: Go on with what is there.
        processes: That train together.

    Returns:
        The lock, held until it is closed or the process ends, however it ends.

    Raises:
        OutputError: Another process trains there, there is an unfinished run and `resume` was not asked for, or the
            folder is not ours.
        OptionError: The unfinished run is another one; the message says in what.
    """
    folder = place.folder
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{folder}: this is not a folder; a run keeps its checkpoints there; move it away")
    known = folder / _RUN
    if folder.is_dir() and any(folder.iterdir()) and _read(known) is None:
        raise OutputError(
            f"{folder}: holds no {_RUN} of ours, and a run keeps its checkpoints there; move it away"
        )
    folder.mkdir(exist_ok=True)
    lock = _lock(folder)
    try:
        _check(place, key, _read(known), resume=resume, processes=processes)
        known.write_text(
            json.dumps({"tool": TOOL, "kind": "training run", "key": key}, indent=2) + "\n", encoding="ascii"
        )
    except BaseException:
        lock.close()
        raise
    return lock


def _check(
    place: Workplace, key: Mapping[str, Any], known: Mapping[str, Any] | None, *, resume: bool, processes: int
) -> None:
    if known is None:
        return
    if not resume:
        check_new(place, processes=processes)
    step = place.step(processes=processes)
    before = _flat(known.get("key", {}))
    now = _flat(json.loads(json.dumps(key)))
    other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if other and step > 0:
        said = ", ".join(f"{name} ({before.get(name)!r}, now {now.get(name)!r})" for name in other[:4])
        raise OptionError(
            f"{place.folder}: the run that was stopped there differs in {said}; give it back its settings, or remove that "
            "folder to begin anew"
        )


def _flat(key: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for part, values in key.items()
        for name, value in (
            {f"{part} {n}": v for n, v in values.items()} if isinstance(values, dict) else {part: values}
        ).items()
    }


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() else -1


def _is_complete(checkpoint: Path, processes: int) -> bool:
    chances = len(list(checkpoint.glob("rng_state*.pth")))
    return (
        _step(checkpoint) > 0 and _read(checkpoint / _STATE, own=False) is not None and chances >= processes
    )


def _read(file: Path, *, own: bool = True) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: half written
        return None
    return found if isinstance(found, dict) and (not own or found.get("tool") == TOOL) else None


def _lock(folder: Path) -> Held:
    lock = hold(folder / _LOCK)
    if lock is None:
        raise OutputError(
            f"{folder}: another process trains there; wait until it ends, or choose another output"
        )
    return lock
