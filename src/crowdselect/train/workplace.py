"""The working folder of an unfinished run, locked to one process: checkpoints, log, and which runs may resume from them."""

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
_HOW = frozenset(
    {
        "base dtype",  # depends on the device if the setting is `auto`
        *(
            f"settings {name}"
            for name in (
                *("device", "gradient_checkpointing", "trust_remote_code"),
                *("eval_steps", "log_steps", "save_steps"),
            )
        ),
    }
)
"""Parts of a key about where a run computes, or what it logs and keeps; they do not identify a run."""
_SHOWN = 40  # characters of a value that differs


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder `MODEL.training` beside the model's folder."""

    folder: Path

    def checkpoint(self, *, processes: int) -> Path | None:
        """Find the last complete checkpoint.

        A checkpoint's trainer state is written after its other files, and each process writes its random state; a
        kill in between leaves a checkpoint without them.

        Args:
            processes: Number of processes that train together.

        Returns:
            Its folder; None if there is none.
        """
        checkpoints = sorted(self.folder.glob(f"{_PREFIX}*"), key=_step, reverse=True)
        return next((one for one in checkpoints if _is_complete(one, processes)), None)

    def step(self, *, processes: int) -> int:
        """Return the step of the last complete checkpoint; 0 = none."""
        last = self.checkpoint(processes=processes)
        return 0 if last is None else _step(last)

    def clear(self) -> None:
        """Remove the checkpoints."""
        for one in self.folder.glob(f"{_PREFIX}*"):
            if _step(one) > 0:
                shutil.rmtree(one)

    def remove(self) -> None:
        """Remove a run's files, and the folder unless something else is in it."""
        self.clear()
        for name in (LOG, _RUN, _LOCK, _CARD):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self.folder.rmdir()

    def leave(self, *, processes: int) -> None:
        """After an error, remove the run's files if nothing was trained."""
        if self.step(processes=processes) == 0:
            self.remove()


def workplace(target: Path) -> Workplace:
    """Return the working folder for a model.

    Example:
        >>> workplace(Path("student")).folder.name
        'student.training'
    """
    return Workplace(target.with_name(f"{target.name}.training"))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List how two runs differ: data, base model, settings, number of processes.

    Where a run computes and what it logs and keeps are ignored.

    Args:
        before: The key of a run, as read from a file.
        now: The key of another.

    Returns:
        A name and both values per difference, sorted by name; empty if the runs are the same.

    Example:
        >>> differences({"settings": {"seed": 0, "device": "cpu"}}, {"settings": {"seed": 1, "device": "auto"}})
        ['settings seed (0, now 1)']
    """
    old, new = _flat(before), _flat(json.loads(json.dumps(now)))
    names = sorted({*old, *new} - _HOW)
    return [
        f"{name} ({_short(old.get(name))}, now {_short(new.get(name))})"
        for name in names
        if old.get(name) != new.get(name)
    ]


def check_unfinished(place: Workplace, key: Mapping[str, Any]) -> None:
    """Refuse a working folder where another run was stopped.

    Raises:
        OptionError: There is a checkpoint of a different run; the message says how it differs.
    """
    known, step = _read(place.folder / _RUN), place.step(processes=1)
    changed = differences(known.get("key", {}), key) if known is not None and step > 0 else []
    if changed:
        raise OptionError(
            f"{place.folder}: the run that was stopped there after step {step} differs in {', '.join(changed[:4])}; run it "
            "with its own settings, or start over with `overwrite=True`"
        )


def occupy(place: Workplace, key: Mapping[str, Any], *, overwrite: bool) -> Held:
    """Lock a working folder for one run.

    Args:
        place: The working folder.
        key: Identifies the run: data, base model, settings, number of processes.
        overwrite: Remove the checkpoints of another unfinished run and start over.

    Returns:
        The lock, held until it is closed or the process ends, even by a crash.

    Raises:
        OutputError: Another process trains there, or crowdselect did not create the folder.
        OptionError: There is a different unfinished run, and no `overwrite`; the message says how it differs.
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
        before = (_read(known) or {}).get("key", {})
        if overwrite and differences(before, key):
            place.clear()
        check_unfinished(place, key)
        known.write_text(
            json.dumps({"tool": TOOL, "kind": "training run", "key": key}, indent=2) + "\n", encoding="ascii"
        )
    except BaseException:
        lock.close()
        raise
    return lock


def _flat(key: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a key to "part name" → value; 0.1.0 called the setting `set` `more`."""
    return {
        name.replace("settings more", "settings set"): value
        for part, values in key.items()
        for name, value in (
            {f"{part} {n}": v for n, v in values.items()} if isinstance(values, dict) else {part: values}
        ).items()
    }


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() else -1


def _is_complete(checkpoint: Path, processes: int) -> bool:
    random_states = len(list(checkpoint.glob("rng_state*.pth")))
    return (
        _step(checkpoint) > 0
        and _read(checkpoint / _STATE, own=False) is not None
        and random_states >= processes
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
