"""Running commands on a real Ray of this machine, as a user does: in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCORERS = """
import os, pathlib, signal, time
def length(conversations):
    return [float(len(chat[-1]["content"])) for chat in conversations]
def logged(conversations):
    pause, deadly = float(os.environ.get("PAUSE", 0)), pathlib.Path("deadly")
    texts = [chat[0]["content"] + "|" + chat[-1]["content"] for chat in conversations]
    with open("asked.txt", "a") as file:
        file.write("".join(repr(text) + chr(10) for text in texts))
    time.sleep(pause)
    if deadly.exists() and len(list(pathlib.Path().glob("*.parts/part-*"))) > 2:
        try:
            deadly.unlink()
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return [float(len(text)) for text in texts]
def broken(conversations):
    return [1.0]
"""
BATCH = 16
_COMMAND = (
    "import crowdselect.reward.sharded as sharded\n"
    f"sharded.BATCH = {BATCH}\n"
    "from crowdselect.cli import main\n"
    "main()\n"
)


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Begin a command with batches of 16, in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def ran(*arguments: object, code: int = 0, **environment: str) -> tuple[str, str]:
    """Run a command to its end."""
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def wait_for(what: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))
