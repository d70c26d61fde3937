"""Running commands on a real Ray of this machine, as a user does: in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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
def placed(conversations):
    with open("gpus.txt", "a") as file:
        file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + chr(10))
    time.sleep(0.2)
    return [1.0 for _ in conversations]
def broken(conversations):
    return [1.0]
"""
EMBEDDER = """
import os, pathlib, signal, time
import numpy as np
class SentenceTransformer:
    def __init__(self, name, **options):
        pass
    def encode(self, texts, **options):
        with open("embedded.txt", "a") as file:
            file.write("".join(repr(text) + chr(10) for text in texts))
        time.sleep(float(os.environ.get("PAUSE", 0)))
        if pathlib.Path("deadly").exists() and len(list(pathlib.Path("cache").rglob("part-*"))) > 2:
            pathlib.Path("deadly").unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)
"""
"""A stand-in for sentence-transformers, to be put where Python looks first: what it embeds stands in a file."""
BATCH = 16
_COMMAND = (
    "import crowdselect.reward.scoring, crowdselect.embed.reading\n"
    f"crowdselect.reward.scoring.BATCH = crowdselect.embed.reading.BATCH = {BATCH}\n"
    "from crowdselect.cli.main import main\n"
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


def recut(folder: Path, count: int) -> None:
    """Cut the same rows into other files."""
    files = sorted(folder.glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    for file in files:
        file.unlink()
    homes = {id_: number for number, id_ in enumerate(sorted(set(table["id"].to_pylist())))}
    homes = [homes[id_] * count // len(homes) for id_ in table["id"].to_pylist()]
    for part in range(count):
        pq.write_table(table.filter([home == part for home in homes]), folder / f"other-{part}.parquet")
