"""Fixtures shared by all tests: the real pools, and a cache folder of the test's own."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cases_server import PORT, Server
from commands import Ran

settings.register_profile("crowdselect", deadline=None)  # machines differ; a slow example is no failure
settings.load_profile("crowdselect")

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that: tests that send it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real pools; without CROWDSELECT_DATA the tests that need it are skipped and counted."""
    folder = os.environ.get("CROWDSELECT_DATA")
    if not folder:
        pytest.skip("CROWDSELECT_DATA is not set: the real pools are not here")
    return Path(folder).resolve(strict=True)


@pytest.fixture(scope="session")
def cases() -> Path:
    folder = os.environ.get("CROWDSELECT_CASES")
    if not folder:
        pytest.skip("CROWDSELECT_CASES is not set: the reported inputs are not here")
    return Path(folder).resolve(strict=True)


@pytest.fixture(scope="session")
def server(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = folder / "chat_server.py"
    script.write_text((cases / "chat_server.py").read_text().replace(PORT, str(port)))
    log = folder / "log.txt"
    with log.open("w") as told:
        process = subprocess.Popen([sys.executable, str(script)], stderr=told)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Server(log, port)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are cached in a folder of this test, never in the user's."""
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the real command in this process, in a folder of its own: `run("inspect", pool)`."""
    from crowdselect.cli.main import main

    monkeypatch.setenv("COLUMNS", "400")  # tables whole; a test of narrow ones sets its own

    def command(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["crowdselect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out, err)

    return command


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated pool of 120 instructions x 12 models, with a few gaps, empty answers and duplicates."""
    from crowdselect.simulate.pool import simulate

    return simulate(tmp_path_factory.mktemp("sim") / "pool.parquet", instructions=120, answer_chars=80).path


@pytest.fixture(scope="session")
def starter() -> Iterator[None]:
    """The processes of `collecting.Job` are forked from one that has its imports done."""
    from collecting import Job, Starter

    Job.starter = Starter()
    yield
    Job.starter.close()
    Job.starter = None


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a real model or any other host: connections go to this machine or not at all."""
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _only_here(getattr(socket.socket, name)))


def _only_here(connect: Callable[..., object]) -> Callable[..., object]:
    def guarded(self: socket.socket, address: object) -> object:
        if isinstance(address, tuple):
            host = str(address[0]).partition("%")[0]
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                pytest.fail(f"a test reached for the network: {host}")
        return connect(self, address)

    return guarded
