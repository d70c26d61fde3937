"""Data in memory as a pool: every kind of table gives the selection of the same rows in a file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.errors import InputError
from crowdselect.simulate.pool import simulate

OPTIONS = Options(budget=8, clusters=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "pool.parquet"
    simulate(path, instructions=40)
    return path


@pytest.fixture(scope="module")
def table(file):
    return pq.read_table(file)


@pytest.fixture(scope="module")
def wanted(file):
    with open_pool(file) as pool:
        return select(pool, OPTIONS)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path / "cache"))


def as_pandas(table):
    frame = pytest.importorskip("pandas") and table.to_pandas()
    return frame[frame["id"].notna()]  # its index has been through a filter


def as_pandas_by_id(table):
    return as_pandas(table).set_index("id")


def as_polars(table):
    return pytest.importorskip("polars").from_arrow(table)


def as_dataset(table):
    datasets = pytest.importorskip("datasets")
    rows = len(table)
    back = datasets.Dataset(table.take(pa.array(range(rows - 1, -1, -1))))
    return back.select(range(rows - 1, -1, -1))  # through an index of its own, in the first order


def as_arrow(table):
    return table


def as_reader(table):
    return table.to_reader(max_chunksize=7)


def as_dicts(table):
    return table.to_pylist()


extra = pytest.mark.extra
KINDS = [
    as_arrow,
    as_reader,
    as_dicts,
    *(pytest.param(kind, marks=extra) for kind in (as_pandas, as_pandas_by_id, as_polars, as_dataset)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_same_selection_as_from_a_file(kind, table, wanted):
    with open_pool(kind(table)) as pool:
        assert select(pool, OPTIONS).table.equals(wanted.table)


def test_row_order_changes_nothing(table, wanted):
    order = np.random.default_rng(1).permutation(len(table))
    with open_pool(table.take(pa.array(order))) as pool:
        assert select(pool, OPTIONS).table.equals(wanted.table)


def test_a_written_selection_finds_its_pool_again(table, tmp_path):
    with open_pool(table.to_pylist()) as pool:
        made = export(select(pool, OPTIONS), pool, tmp_path / "chosen")
    again = load_selection(made)
    with open_pool(again.facts["pool"]) as pool:
        assert None not in pool.texts_of(again.chosen)


def test_equal_data_is_kept_once_and_nothing_else_is_left(table, tmp_path):
    paths = set()
    for _ in range(2):
        with open_pool(table) as pool:
            paths.add(pool.path)
    assert {str(file) for file in (tmp_path / "cache" / "memory").iterdir()} == paths
    assert len(paths) == 1


def test_rewards_may_be_in_memory_too(table, wanted):
    apart = table.select(["id", "model", "simulated_reward"])
    with open_pool(table.drop_columns(["simulated_reward"]), rewards=apart) as pool:
        assert select(pool, OPTIONS).table.equals(wanted.table)


def test_dicts_may_hold_numpy_values_and_differ_in_their_keys():
    rows = [
        {"id": "1", "instruction": "Say hello to me", "model": "a", "response": "x", "score": np.float32(2)},
        {
            "id": "1",
            "instruction": "Say hello to me",
            "model": "b",
            "response": "\ud800",
            "score": float("nan"),
        },
        {"id": "1", "model": "c", "response": "z", "score": np.int64(4)},
    ]
    with open_pool(rows) as pool:
        assert pool.models == ("a", "b", "c")
        np.testing.assert_array_equal(pool.scores(), [[2.0, np.nan, 4.0]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "a pool cannot be read from the type int; wanted a path, a datasets.Dataset, a table of pandas"),
        ([{"id": "1"}, "x"], "row 1 of the list is of type str; wanted a dict"),
        ([{"id": object()}], r"row 0 of the list cannot be written as JSON \(no JSON value: object\)"),
        ([], "the list is empty; wanted at least one dict"),
    ],
)
def test_what_is_no_pool_is_refused(data, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_pool(data)
    left = tmp_path / "cache" / "memory"
    assert not left.exists() or not [file for file in left.iterdir() if file.suffix == ".tmp"]


@pytest.mark.extra
def test_several_splits_are_refused_by_name(table):
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": datasets.Dataset(table), "test": datasets.Dataset(table)})
    with pytest.raises(InputError, match="a DatasetDict is no table; give one of its parts: 'train', 'test'"):
        open_pool(splits)
