"""What the tests of `crowdselect collect` share: input files, the command as a process, a look into its ledger.

With the fixture `starter` processes are forked from one that has its imports done: each is a whole command that
can be killed, but without two seconds of importing. `Job.start(fresh=True)` starts one the long way.
"""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAST = ("--retry-wait", "0.05")  # short pauses between tries, so that the tests are quick
BRIEF = ("--attempts", "2", "--patience", "3")  # little patience with an endpoint that does not answer
ANSWERED = {"ok", "length", "empty"}

_COMMAND = "from crowdselect.cli.main import main; main()"
_FORKS = """
import asyncio, json, os, resource, signal, sys
import duckdb, openai, pyarrow.parquet
from crowdselect.cli.main import main
import crowdselect.collect.job, crowdselect.ask.display, crowdselect.ask.http_client, crowdselect.terminal

pyarrow.array(["imports what pyarrow imports late"])

def become(order):
    files = [os.open(os.devnull, os.O_RDONLY)]
    files += [os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for name in ("out", "err")]
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    if order["file_size"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], order["file_size"]))
    sys.argv = order["arguments"]
    main()

for line in sys.stdin:
    order = json.loads(line)
    if isinstance(order, int):
        pid, status = os.waitpid(order, os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        become(order)
        os._exit(0)
    print(pid, flush=True)
"""


class Starter:
    """A process that has imported all that the command needs, and forks."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def tell(self, order: object) -> int | None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


class Result:
    """How a run ended and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def said(self) -> str:
        """All of it, control sequences left out."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.out + self.err)

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-3000:]}"


class Running:
    """A command that was started."""

    def __init__(self, pid: int, poll, files: list[Path]) -> None:
        self.pid, self._poll, self._files = pid, poll, files
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            self.code = self._poll()
        return self.code

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, limit: float = 60) -> Result:
        """Wait for the end; a run that hangs past the limit is killed and fails the test."""
        try:
            wait_for(lambda: self.poll() is not None, limit)
        except TimeoutError:
            self.send(signal.SIGKILL)
            wait_for(lambda: self.poll() is not None)
            pytest.fail(f"still running after {limit} s; {self._result()}")
        return self._result()

    def kill(self) -> Result:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            self.send(signal.SIGKILL)
        return self.end()

    def _result(self) -> Result:
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._files)
        return Result(self.code, out, err)


class Job:
    """A folder with instructions and a crowd, and the command that collects them."""

    starter: Starter | None = None
    runs = 0

    def __init__(self, folder: Path, prompts, models: dict[str, dict], **defaults: object) -> None:
        self.folder = folder
        self.instructions = write_instructions(folder, prompts)
        self.crowd = write_crowd(folder, models, **defaults)
        self.pool = folder / "pool.parquet"

    def start(
        self, *options: object, file_size: int | None = None, fresh: bool = False, **environment: str
    ) -> Running:
        """Start the command; file_size is what no file may grow past."""
        Job.runs += 1
        files = [self.folder.parent / f"{self.folder.name}-{Job.runs}.{name}" for name in ("out", "err")]
        for file in files:
            file.touch()
        given = ["collect", self.instructions, "--crowd", self.crowd, "-o", self.pool, *options]
        arguments = ["crowdselect", *map(str, given)]
        if fresh:
            with files[0].open("wb") as out, files[1].open("wb") as err:
                process = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND, *arguments[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=os.environ | environment,
                    cwd=self.folder,
                )
            return Running(process.pid, process.poll, files)
        order = {
            "arguments": arguments,
            "out": str(files[0]),
            "err": str(files[1]),
            "folder": str(self.folder),
            "environment": environment,
            "file_size": file_size,
        }
        pid = self.starter.tell(order)
        return Running(pid, lambda: self.starter.tell(pid), files)

    def run(self, *options: object, limit: float = 60, **settings) -> Result:
        """Run to the end."""
        return self.start(*options, **settings).end(limit)

    @property
    def ledger(self) -> Path:
        """The one SQLite file beside the pool."""
        found = [path for path in sorted(self.folder.iterdir()) if _is_sqlite(path)]
        assert len(found) == 1, found
        return found[0]

    def rows(self) -> list[dict]:
        """The ledger's rows; none where there is no ledger yet."""
        if not any(_is_sqlite(path) for path in self.folder.iterdir()):
            return []
        return self.query("SELECT * FROM answers ORDER BY number")

    def query(self, sql: str) -> list[dict]:
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute(sql)]
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # killed before the tables were made
                    return []
                raise

    def integrity(self) -> str:
        return self.query("PRAGMA integrity_check")[0]["integrity_check"]

    def pool_rows(self) -> list[dict]:
        import pyarrow.parquet as pq

        return pq.read_table(self.pool).to_pylist()

    def answers(self) -> dict[tuple[str, str], str]:
        """(id, model) to response, of the pool."""
        return {(row["id"], row["model"]): row["response"] for row in self.pool_rows()}


def write_instructions(folder: Path, prompts: list[str] | dict[str, str]) -> Path:
    """One instruction per prompt; without ids of its own i000, i001, ..."""
    if not isinstance(prompts, dict):
        prompts = {f"i{number:03d}": prompt for number, prompt in enumerate(prompts)}
    path = folder / "instructions.jsonl"
    rows = [json.dumps({"id": id_, "instruction": text}) + "\n" for id_, text in prompts.items()]
    path.write_text("".join(rows), encoding="utf-8")
    return path


def write_crowd(folder: Path, models: dict[str, dict], **defaults: object) -> Path:
    """A crowd file; JSON's texts, numbers and lists are TOML's too."""
    tables = [("[defaults]", defaults)] if defaults else []
    tables += [("[[model]]", {"name": name} | settings) for name, settings in models.items()]
    lines = []
    for head, values in tables:
        lines += [head, *(f"{key} = {_toml(value)}" for key, value in values.items()), ""]
    path = folder / "crowd.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def wait_for(condition, limit: float = 30) -> None:
    """Wait until something is true."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited for {limit} s in vain")
        time.sleep(0.005)


def _is_sqlite(path: Path) -> bool:
    if not path.is_file() or path.name.endswith(("-wal", "-shm", ".lock")):
        return False
    with path.open("rb") as stream:
        return stream.read(15) == b"SQLite format 3"
