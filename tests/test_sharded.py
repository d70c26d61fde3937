"""Choosing file by file gives what choosing from the whole pool gives, however the rows are cut into files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, export, lsa, open_pool, select, sharded
from crowdselect.cluster import fit_centres, nearest
from crowdselect.eligibility import duplicate_groups
from crowdselect.errors import InputError, OptionError
from crowdselect.measure import measure
from crowdselect.merged import same_texts
from crowdselect.ordering import seeded_hash
from crowdselect.sharded import ShardedPool, large_pool, select_sharded, sharded_metrics
from crowdselect.simulate import simulate
from crowdselect.tables import metrics_table

SHARDS = (1, 2, 7)
OPTIONS = {
    "usual": {"clusters": 5},
    "pairs": {"pairs": "best-worst", "clusters": 0},
    "column": {"cluster_by": "topic", "answer": "top3-random", "min_best_quantile": 0.1},
    "one": {"clusters": 1, "weights": {"difficulty": -1.0, "separability": 1.0}, "seed": 7},
}


def cut(file, folder, count, *, seed=0, by="id"):
    """Deal a pool's instructions out to files, in any order."""
    table = pq.read_table(file)
    ids = table[by].to_pylist()
    rng = np.random.default_rng(seed)
    home = {
        id_: int(shard)
        for id_, shard in zip(sorted(set(ids)), rng.integers(0, count, len(ids)), strict=False)
    }
    shard = np.array([home[id_] for id_ in ids])
    folder.mkdir()
    for number in range(count):
        rows = rng.permutation(np.flatnonzero(shard == number))
        if len(rows):
            pq.write_table(table.take(rows), folder / f"part-{number}.parquet")
    return folder


def both(path, options, **place):
    """The selection from the whole, and file by file, with the training records of each."""
    pool = open_pool(path, **place)
    by_file = ShardedPool(pool)
    return (select(pool, options), pool), (select_sharded(by_file, options), by_file)


def assert_same(one, other):
    assert one.table.equals(other.table)
    assert one.options == other.options
    assert one.facts == other.facts
    assert one.warnings == other.warnings


@pytest.mark.parametrize("layout", ["long", "zoo"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_choice_is_that_of_the_whole_pool_in_any_files(layout, name, tmp_path):
    made = simulate(
        tmp_path / "pool.parquet", instructions=150, layout=layout, duplicates=0.2, answer_chars=80
    )
    options = Options(budget=20, **OPTIONS[name])
    with open_pool(made.path) as pool:
        whole = select(pool, options)
        export(whole, pool, tmp_path / "whole")
    for count in SHARDS:
        folder = cut(made.path, tmp_path / f"in-{count}", count, by="uuid" if layout == "zoo" else "id")
        (here, pool), (there, source) = both(folder, options)
        assert_same(here, there)
        assert there.table.equals(whole.table)
        export(here, pool, tmp_path / f"here-{count}")
        export(there, source, tmp_path / f"there-{count}")
        for file in ("train.jsonl", "selection.parquet", "README.md"):
            one, other = ((tmp_path / f"{place}-{count}" / file).read_bytes() for place in ("here", "there"))
            assert one == other
        assert (tmp_path / f"there-{count}/train.jsonl").read_bytes() == (
            tmp_path / "whole/train.jsonl"
        ).read_bytes()
        assert (tmp_path / f"there-{count}/selection.parquet").read_bytes() == (
            tmp_path / "whole/selection.parquet"
        ).read_bytes()


def test_lists_benchmarks_numbers_and_a_second_file_of_rewards(tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=120, answer_chars=80)
    table = pq.read_table(made.path)
    with open_pool(made.path) as pool:
        ids, texts = pool.ids.tolist(), pool.instructions().tolist()
    (tmp_path / "bench.jsonl").write_text(
        "".join(f'{{"question_id": "{i}", "question": "{texts[i]}"}}\n' for i in (3, 9))
    )
    (tmp_path / "out.txt").write_text("\n".join([*ids[10:30], "nobody"]))
    pq.write_table(
        pa.table({"id": ids[5:], "extra": np.arange(len(ids) - 5.0)}), tmp_path / "numbers.parquet"
    )
    rewards = table.select(["id", "model"]).append_column(
        "other", pa.array(np.random.default_rng(0).normal(size=len(table)))
    )
    lost = pa.table({"id": ["gone", ids[0]], "model": ["sim-ash-3b", "nobody"], "other": [1.0, 2.0]})
    pq.write_table(pa.concat_tables([rewards, lost.cast(rewards.schema)]), tmp_path / "rewards.parquet")
    folder = cut(made.path, tmp_path / "in", 4)
    options = Options(budget=15, clusters=3, reward="other", exclude=str(tmp_path / "out.txt"),
                      decontaminate=(str(tmp_path / "bench.jsonl"),), metrics=str(tmp_path / "numbers.parquet"),
                      weights={"separability": 1.0, "extra": 0.5})  # fmt: skip
    (here, _), (there, _) = both(folder, options, rewards=tmp_path / "rewards.parquet")
    assert_same(here, there)
    assert any("2 rows of" in note for note in there.facts["notes"])
    assert there.counts()["contaminated"] >= 2


def test_shards_that_lack_models_rewards_or_text(tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    table = pq.read_table(made.path)
    first, second, third = (
        table.filter(pa.compute.starts_with(table["id"], f"sim-0000000{n}")) for n in (1, 2, 3)
    )
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(first.filter(pa.compute.not_equal(first["model"], "sim-ash-3b")), folder / "a.parquet")
    pq.write_table(_without(second, "simulated_reward", pa.float64()), folder / "b.parquet")
    pq.write_table(
        _without(third, "instruction", third.schema.field("instruction").type), folder / "c.parquet"
    )
    (here, _), (there, _) = both(folder, Options(budget=5, clusters=2))
    assert_same(here, there)
    assert there.counts()["too_few_rewards"] == 10
    assert there.counts()["no_instruction"] == 10


def _without(table, column, kind):
    at = table.schema.get_field_index(column)
    return table.set_column(at, column, pa.nulls(len(table), kind))


@pytest.mark.parametrize("count", SHARDS)
def test_the_table_of_metrics_is_that_of_the_whole_pool(count, sim, tmp_path):
    folder = cut(sim, tmp_path / "in", count, seed=3)
    with open_pool(folder) as pool:
        table, notes = sharded_metrics(ShardedPool(pool), reward=None, crowd=None, ties="average")
        measured = measure(pool)
        assert table.equals(metrics_table(pool, measured))
        assert notes == list(measured.notes)


def test_an_instruction_in_two_files_is_refused(sim, tmp_path):
    table = pq.read_table(sim)
    (tmp_path / "in").mkdir()
    for number, half in enumerate((table.slice(0, 5), table.slice(5))):
        pq.write_table(half, tmp_path / f"in/{number}.parquet")
    with (
        open_pool(tmp_path / "in") as pool,
        pytest.raises(InputError, match=r"1\.parquet: id 'sim-\d+' is in .*0\.parquet too"),
    ):
        select_sharded(ShardedPool(pool), Options(budget=5))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"near_duplicates": 0.9}, "near-duplicates"),
        ({"embedder": "column:v"}, "column:v"),
        ({"reward": ("a", "b"), "ensemble": "mean-rank"}, "ensemble"),
    ],
)
def test_what_needs_the_whole_pool_is_refused(options, why, sim):
    with open_pool(sim) as pool, pytest.raises(OptionError, match=why):
        select_sharded(ShardedPool(pool), Options(budget=5, **options))


def test_a_limit_and_other_files_are_refused(sim, run, tmp_path):
    with open_pool(sim, limit=5) as pool, pytest.raises(OptionError, match="--limit"):
        ShardedPool(pool)
    simulate(tmp_path / "pool.jsonl", instructions=10, answer_chars=80)
    with open_pool(tmp_path / "pool.jsonl") as pool, pytest.raises(OptionError, match="Parquet"):
        ShardedPool(pool)


def test_a_large_pool_of_several_files_is_chosen_from_file_by_file(run, tmp_path, monkeypatch):
    simulate(tmp_path / "pool", instructions=200, shards=3, layout="zoo", answer_chars=80)
    assert run("select", tmp_path / "pool", "--budget", 9, "-o", tmp_path / "whole").code == 0
    monkeypatch.setattr(sharded, "LARGE", 100)
    monkeypatch.setattr("crowdselect.run.select", None)  # would not be found
    shown = run("select", tmp_path / "pool", "--budget", 9, "-o", tmp_path / "by-file")
    assert shown.code == 0, shown.err
    for file in ("train.jsonl", "selection.parquet", "README.md"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "by-file" / file).read_bytes()
    with open_pool(tmp_path / "pool") as pool:
        assert large_pool(pool, Options(budget=9, near_duplicates=0.9)) is None
        monkeypatch.setattr(sharded, "LARGE", 200)
        assert large_pool(pool, Options(budget=9)) is None


@pytest.mark.parametrize("clusters", [1, 6])
def test_a_large_pool_of_one_file_holds_no_vectors_and_has_the_same_clusters(clusters, sim, monkeypatch):
    with open_pool(sim) as pool:
        whole = select(pool, Options(budget=9, clusters=clusters))
        monkeypatch.setattr("crowdselect.grouping.LARGE", 100)
        monkeypatch.setattr("crowdselect.grouping._BLOCK", 7)
        monkeypatch.setattr("crowdselect.grouping.embed", None)
        assert select(pool, Options(budget=9, clusters=clusters)).table.equals(whole.table)


@given(st.lists(st.one_of(st.none(), st.text(alphabet="aA b\u00e9\uff21", max_size=4)), max_size=30))
def test_digests_group_as_texts_do(texts):
    from hashlib import blake2b

    from crowdselect.eligibility import normalised

    digests = [None if t is None else blake2b(normalised(t).encode(), digest_size=16).digest() for t in texts]
    found = same_texts(pa.chunked_array([pa.array(digests, pa.binary(16))]))
    assert found.tolist() == duplicate_groups(np.array([*texts, None], dtype=object)[:-1]).tolist()


@given(st.integers(1, 60), st.integers(0, 5))
def test_vectors_and_clusters_do_not_depend_on_what_is_computed_together(size, seed):
    rng = np.random.default_rng(seed)
    words = np.array([f"w{n}" for n in range(40)])
    texts = [" ".join(rng.choice(words, 6)) for _ in range(120)]
    basis = lsa.fit(texts, seed=0)
    vectors = lsa.project(texts, basis)
    keys = seeded_hash([str(n) for n in range(120)], seed=0)
    centres = fit_centres(vectors, k=6, keys=keys)
    labels = nearest(vectors, centres)
    at = int(rng.integers(0, 120 - size))
    some = lsa.project(texts[at : at + size], basis)
    assert (some == vectors[at : at + size]).all()
    assert (nearest(some, centres) == labels[at : at + size]).all()
    assert (nearest(vectors.repeat(2, axis=0)[::2], centres[::-1][::-1]) == labels).all()


def test_rows_between_two_centres_have_one_answer_whatever_the_block():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 33)).astype(np.float32)
    middle = ((centres[0] + centres[1]) / 2).astype(np.float32)
    rows = np.tile(middle, (5000, 1)) + rng.normal(size=(5000, 33)).astype(np.float32) * 1e-7
    exact = np.argmin(((rows[:, None, :].astype(np.longdouble) - centres) ** 2).sum(axis=2), axis=1)
    labels = nearest(rows, centres)
    assert (labels == exact).mean() > 0.999
    for begin, size in ((0, 1), (17, 3), (1000, 1025)):
        assert (nearest(rows[begin : begin + size], centres) == labels[begin : begin + size]).all()


@pytest.mark.real
def test_zeroeval_in_seven_files(data, tmp_path):
    folder = cut(data / "zeroeval.parquet", tmp_path / "in", 7)
    options = Options(budget=200)
    (here, _), (there, _) = both(folder, options)
    assert_same(here, there)
    with open_pool(data / "zeroeval.parquet") as pool:
        assert select(pool, options).table.equals(there.table)
