"""What needs no Ray: keys and parts, the functions that workers run, and the options."""

import socket
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect.cache import KEY, Keys, Parts, joined
from crowdselect.engine import stream
from crowdselect.engine.here import EngineOptions
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.reward.alike import Alike
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.own import FunctionScorer
from crowdselect.reward.run import Column
from crowdselect.reward.scoring import ScorerSetup, ScoreWorker, files_of, on_workers
from crowdselect.reward.specs import parse_spec
from crowdselect.reward.stored import Stored
from crowdselect.simulate.pool import simulate
from engines import SCORERS


def key(first, second=0):
    """A key whose first 16 bytes are two numbers."""
    return first.to_bytes(8, "big") + second.to_bytes(8, "big") + bytes(16)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4))),
)
def test_keys_are_found_where_they_first_stood(kept, wanted):
    keys = [key(*each) for each in kept]
    found = Keys.of(keys).find([key(*each) for each in wanted])
    assert found.tolist() == [keys.index(key(*each)) if each in kept else -1 for each in wanted]


def test_of_equal_keys_the_preferred_one_counts():
    keys = [key(7), key(7), key(8)]
    assert Keys.of(keys, prefer=np.array([False, True, False])).find([key(7), key(8)]).tolist() == [1, 2]


def test_parts_are_whole_or_not_there_and_found_by_their_keys(tmp_path):
    parts = Parts(tmp_path / "p")
    assert parts.read(KEY) is None
    name = parts.name([key(1)])
    assert not parts.has(name)
    parts.write(name, {KEY: pa.array([key(1)]), "n": pa.array([5])})
    (tmp_path / "p" / ".half.tmp").write_bytes(b"PAR1")  # what a killed worker leaves
    assert parts.has(name)
    assert parts.keys().find([key(1), key(2)]).tolist() == [0, -1]
    assert parts.read("n")["n"].to_pylist() == [5]
    (tmp_path / "p" / "part-0.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError, match=r"part-0\.parquet: this part is damaged"):
        parts.read(KEY)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="earlier parts are kept"):
        Parts(tmp_path / "file").write(name, {KEY: pa.array([key(1)])})


@pytest.mark.parametrize("count", [1, 2, 7])
def test_however_the_pool_is_cut_each_conversation_is_scored_once(count, tmp_path, monkeypatch):
    from crowdselect import open_pool

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers_of_parts.py").write_text(SCORERS)
    place = tmp_path / ("pool" if count > 1 else "pool.parquet")
    simulate(place, instructions=30, shards=count, answer_chars=80)
    spec = parse_spec("python:scorers_of_parts:length")
    column = Column.of("length", FunctionScorer(spec))
    setup = ScorerSetup(spec, LocalOptions(), column.digest)
    parts = Parts(tmp_path / "parts")
    worker = ScoreWorker(setup, parts.folder, str(tmp_path), Alike("score", 0, stops=False))
    with open_pool(place) as pool:
        sources = files_of(pool)
    half = sources[: len(sources) // 2]
    for some in (half, sources, sources):  # stopped half-way, gone on with, and again
        read = on_workers(
            column,
            setup,
            Stored(None, parts),
            parts,
            engine=EngineOptions(engine="ray"),
            alike=Alike("score", 0, stops=False),
        ).read
        for source in some:
            for table in read(pa.Table.from_pylist([source])):
                worker(table)
                assert worker(table)["scored"].to_pylist() == [0]  # handed out a second time
    keys = parts.read(KEY)[KEY]
    assert len(set(keys.to_pylist())) >= len(keys) - 12  # equal conversations in two files
    assert len(Keys.of(joined(keys)).place) == len(set(keys.to_pylist()))


def test_a_worker_with_another_scorer_stops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers_of_parts_2.py").write_text(SCORERS)
    spec = parse_spec("python:scorers_of_parts_2:length")
    with pytest.raises(InputError, match="on a worker it is not what it is on the driver"):
        ScoreWorker(
            ScorerSetup(spec, LocalOptions(), bytes(32)),
            tmp_path / "parts",
            str(tmp_path),
            Alike("score", 0, stops=False),
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"engine": "spark"}, "local, ray"),
        ({"workers": 2}, "add it"),
        ({"engine": "ray", "workers": 0}, "at least 1"),
        ({"engine": "ray", "gpus_per_worker": 1.5}, "whole number"),
        ({"engine": "ray", "gpus_per_worker": float("nan")}, "whole number"),
    ],
)
def test_options_that_make_no_sense(given, words):
    with pytest.raises(OptionError, match=words):
        EngineOptions(**given)


def test_a_cluster_that_has_gone_is_said_at_once(monkeypatch):
    """Ray finds the last address in a file, and would try it for minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(stream, "_found", lambda address: gone)
    ray = SimpleNamespace(init=lambda **_: pytest.fail("Ray was asked"))
    with pytest.raises(OptionError, match=r"`ray_address=auto`: no Ray cluster there: .*ray start --head"):
        stream._start(ray, EngineOptions(engine="ray", ray_address="auto"))
