"""Choosing file by file gives what choosing from the whole pool gives, however the rows are cut into files."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, export, open_pool, select
from crowdselect.cache import Parts, key_of, write_vectors
from crowdselect.embed.models import TextModel
from crowdselect.engine.here import run_here
from crowdselect.errors import InputError, OptionError, OutputError, SplitError
from crowdselect.methods.ifd import by_ifd
from crowdselect.methods.random_choice import random_choice
from crowdselect.methods.reward import by_reward
from crowdselect.numeric import lsa
from crowdselect.numeric.clusters import fit_centres, nearest
from crowdselect.numeric.duplicates import duplicate_groups, normalised
from crowdselect.pool import shards
from crowdselect.seeding import seeded_hash
from crowdselect.selection import reading as sharded
from crowdselect.selection.look import look_at
from crowdselect.selection.rows import metrics_table
from crowdselect.selection.texts import chosen_of
from crowdselect.simulate.pool import simulate

ROOT = Path(__file__).parent.parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHARDS = (1, 2, 7)
OPTIONS = {
    "usual": {"clusters": 5},
    "pairs": {"pairs": "best-worst", "clusters": 0},
    "column": {"cluster_by": "topic", "answer": "top3-random", "keep": "best_reward=10%.."},
    "one": {"clusters": 1, "weights": {"difficulty": -1.0, "separability": 1.0}, "seed": 7},
    "apart": {"clusters": 3, "near_duplicates": 0.3},
    "apart by column": {"cluster_by": "topic", "near_duplicates": 0.25, "seed": 2},
    "apart alone": {"clusters": 0, "near_duplicates": 0.5},
    "quota": {"quota": "topic=equal", "clusters": 3, "near_duplicates": 0.3},
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


def by_file(pool, options, **more):
    """The selection with the pool's files read one by one."""
    return select(pool, options, run=run_here, **more)


def both(path, options, **place):
    """The selection from the whole, and file by file, with the training records of each."""
    pool = open_pool(path, **place)
    whole, there = select(pool, options), by_file(pool, options)
    return (whole, pool), (there, chosen_of(pool, there, run=run_here))


def assert_same(one, other):
    assert one.table.equals(other.table)
    assert one.options == other.options
    assert one.facts == other.facts
    assert one.warnings == other.warnings


@pytest.fixture
def few(monkeypatch):
    """Centres are fitted on a part of the rows only."""
    for name in ("_SAMPLE", "_SEARCH"):
        monkeypatch.setattr(f"crowdselect.numeric.clusters.{name}", 40)
    for name in ("_SAMPLE_PER_CLUSTER", "_SEARCH_PER_CLUSTER"):
        monkeypatch.setattr(f"crowdselect.numeric.clusters.{name}", 1)
    monkeypatch.setattr("crowdselect.numeric.lsa.SAMPLE", 60)


@pytest.mark.parametrize("sample", ["all", "few"])
@pytest.mark.parametrize("layout", ["long", "zoo"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_choice_is_that_of_the_whole_pool_in_any_files(layout, name, sample, request, tmp_path):
    if sample == "few":
        request.getfixturevalue("few")
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
        _, rows = look_at(pool, options=None, run=run_here)
        _, whole = look_at(pool, options=None)
        assert metrics_table(rows).equals(metrics_table(whole))
        assert rows.notes == whole.notes


def test_an_instruction_in_two_files_is_refused(sim, tmp_path):
    table = pq.read_table(sim)
    (tmp_path / "in").mkdir()
    for number, half in enumerate((table.slice(0, 5), table.slice(5))):
        pq.write_table(half, tmp_path / f"in/{number}.parquet")
    with (
        open_pool(tmp_path / "in") as pool,
        pytest.raises(InputError, match=r"1\.parquet: id 'sim-\d+' is in .*0\.parquet too"),
    ):
        by_file(pool, Options(budget=5))


@pytest.mark.parametrize("ensemble", ["mean-rank", "min"])
def test_what_needs_the_whole_pool_is_refused(ensemble, sim):
    options = Options(budget=5, reward=("a", "b"), ensemble=ensemble)
    with open_pool(sim) as pool, pytest.raises(OptionError, match="ensemble"):
        by_file(pool, options)


def test_other_files_are_refused(tmp_path):
    simulate(tmp_path / "pool.jsonl", instructions=10, answer_chars=80)
    with open_pool(tmp_path / "pool.jsonl") as pool, pytest.raises(OptionError, match="Parquet"):
        by_file(pool, Options(budget=5))


@pytest.mark.parametrize("name", ["usual", "pairs", "column"])
def test_a_limit_lets_the_same_rows_in(name, tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=150, duplicates=0.2, answer_chars=80)
    folder, options = cut(made.path, tmp_path / "in", 4), Options(budget=20, **OPTIONS[name])
    (here, pool), (there, _) = both(folder, options, limit=60, seed=3)
    assert_same(here, there)
    assert len(here.table) == 60
    export(here, pool, tmp_path / "here")
    export(there, pool, tmp_path / "there", run=run_here)
    one, other = ((tmp_path / place / "train.jsonl").read_bytes() for place in ("here", "there"))
    assert one == other


def test_a_large_pool_of_several_files_is_read_file_by_file(run, tmp_path, monkeypatch):
    simulate(tmp_path / "pool", instructions=200, shards=3, layout="zoo", answer_chars=80)
    asked = ("select", tmp_path / "pool", "--budget", 9, "--pairs", "best-worst", "-o")
    assert run(*asked, tmp_path / "whole").code == 0
    assert run("metrics", tmp_path / "pool", "-o", tmp_path / "whole.parquet").code == 0
    options = Options(budget=9, pairs="best-worst")
    monkeypatch.setattr(sharded, "LARGE", 200)
    with open_pool(tmp_path / "pool") as pool:
        assert sharded.shards_of(pool, options=options).whole
    monkeypatch.setattr(sharded, "LARGE", 100)
    monkeypatch.setattr(sharded.Shards, "texts", None)  # would hold all texts
    monkeypatch.setattr("crowdselect.selection.folder._BATCH", 4)
    shown = run(*asked, tmp_path / "by-file")
    assert shown.code == 0, shown.err
    with open_pool(tmp_path / "pool") as pool:  # from Python
        export(select(pool, options), pool, tmp_path / "called")
    assert run("metrics", tmp_path / "pool", "-o", tmp_path / "by-file.parquet").code == 0
    for file in ("train.jsonl", "selection.parquet", "README.md"):
        one, *others = ((tmp_path / place / file).read_bytes() for place in ("whole", "by-file", "called"))
        assert others == [one, one]
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "by-file.parquet").read_bytes()


def test_texts_of_what_is_not_in_the_pool_are_refused(sim, tmp_path):
    folder = cut(sim, tmp_path / "in", 3)
    with open_pool(folder) as pool:
        chosen = select(pool, Options(budget=5))
        files = chosen_of(pool, chosen, run=run_here)
        pairs = [(row["id"], row["model"]) for row in chosen.rows()]
        assert files.responses(pairs) == pool.responses(pairs)
        assert files.prompts(pairs) == pool.prompts(pairs)
        assert files.texts_of([id_ for id_, _ in pairs]) == pool.texts_of([id_ for id_, _ in pairs])
        with pytest.raises(InputError, match="no id 'gone' in the pool"):
            files.responses([("gone", "a")])


# ── pools that cannot be read file by file, though they look so ──────────────────────────────────────


def spoiled(how, tmp_path):
    """A pool in three files that is a good one as a whole."""
    table = pq.read_table(simulate(tmp_path / "pool.parquet", instructions=90, answer_chars=80).path)
    folder = cut(tmp_path / "pool.parquet", tmp_path / "in", 3)
    file = folder / "part-1.parquet"
    own = pq.read_table(file)
    at = own.column_names.index("simulated_reward")
    if how == "a file of no rows":
        pq.write_table(own.slice(0, 0), folder / "empty.parquet")
    elif how == "a file per model":
        shutil.rmtree(folder)
        folder.mkdir()
        for model in set(table["model"].to_pylist()):
            pq.write_table(table.filter(pa.compute.equal(table["model"], model)), folder / f"{model}.parquet")
    elif how == "no reward in a file":
        pq.write_table(own.drop_columns(["simulated_reward"]), file)
    elif how == "a column of nothing":
        pq.write_table(own.set_column(at, "simulated_reward", pa.nulls(len(own))), file)
    elif how == "another type":
        pq.write_table(
            own.set_column(at, "simulated_reward", own["simulated_reward"].cast(pa.float32())), file
        )
    elif how == "one column more":
        pq.write_table(own.append_column("extra", own["topic"]), file)
    return folder


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("a file of no rows", None),
        (
            "a file per model",
            "a pool that is read file by file must have all rows of an instruction in one file",
        ),
        ("no reward in a file", "part-1.parquet: no column 'simulated_reward', which other files have"),
        ("a column of nothing", "part-1.parquet: column 'simulated_reward' is of another type"),
        ("another type", "part-1.parquet: column 'simulated_reward' is of another type"),
        ("one column more", "part-1.parquet: column 'extra', which other files do not have"),
    ],
)
def test_a_large_pool_is_then_held_as_a_whole_and_a_cluster_says_why_not(
    how, why, run, tmp_path, monkeypatch
):
    folder = spoiled(how, tmp_path)
    asked = ("select", folder, "--budget", 9, "--clusters", 3, "-o")
    assert run(*asked, tmp_path / "small").code == 0
    assert run("metrics", folder, "-o", tmp_path / "small.parquet").code == 0
    monkeypatch.setattr(sharded, "LARGE", 10)
    assert run(*asked, tmp_path / "large").code == 0
    assert run("metrics", folder, "-o", tmp_path / "large.parquet").code == 0
    for file in ("train.jsonl", "selection.parquet", "README.md"):
        assert (tmp_path / "small" / file).read_bytes() == (tmp_path / "large" / file).read_bytes()
    assert (tmp_path / "small.parquet").read_bytes() == (tmp_path / "large.parquet").read_bytes()
    with open_pool(folder) as pool:
        if why is None:
            assert_same(select(pool, Options(budget=9)), by_file(pool, Options(budget=9)))
            return
        with pytest.raises((SplitError, OptionError), match=why):
            by_file(pool, Options(budget=9))


def test_samples_in_two_files_are_exported_as_the_whole_pool_gives_them(tmp_path, monkeypatch):
    table = pq.read_table(simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80).path)
    (tmp_path / "in").mkdir()
    for number in range(2):
        texts = [f"{number} {text}" for text in table["response"].to_pylist()]
        at = table.column_names.index("response")
        own = table.set_column(at, "response", pa.array(texts)).append_column(
            "sample", pa.array([number] * len(table))
        )
        pq.write_table(own, tmp_path / "in" / f"{1 - number}.parquet")
    with open_pool(tmp_path / "in") as pool:
        chosen = select(pool, Options(budget=9))
        export(chosen, pool, tmp_path / "small")
        monkeypatch.setattr(sharded, "LARGE", 10)
        export(chosen, pool, tmp_path / "large")
    one, other = ((tmp_path / name / "train.jsonl").read_text() for name in ("small", "large"))
    assert one == other


def test_the_documented_way_to_cut_a_file_adds_no_column(tmp_path):
    words = (ROOT / "docs" / "scale.md").read_text().split("`COPY ")[1].split("`.")[0]
    made = simulate(tmp_path / "pool.parquet", instructions=200, layout="matrix")
    sql = f"COPY {words}".replace("'pool.parquet'", f"'{made.path}'").replace("'pool'", f"'{tmp_path}/pool'")
    with duckdb.connect() as connection:
        connection.execute(" ".join(sql.split())).fetchall()
    options = Options(budget=9, clusters=0)
    with open_pool(made.path) as whole, open_pool(tmp_path / "pool") as pool:
        assert pool.models == whole.models
        assert select(pool, options).table.equals(select(whole, options).table)
        assert_same(select(pool, options), by_file(pool, options))


def test_what_a_second_file_of_rewards_lacks_is_said_as_for_the_whole(tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    folder = cut(made.path, tmp_path / "in", 3)
    table = pq.read_table(made.path, columns=["id", "model"])
    for name, ids, models, value in (
        ("id", [*table["id"].to_pylist()[:-1], None], table["model"], 1.0),
        ("model", table["id"], [*table["model"].to_pylist()[:-1], None], 1.0),
        ("number", table["id"], table["model"], float("inf")),
    ):
        values = [*[0.5] * (len(table) - 1), value]
        pq.write_table(pa.table({"id": ids, "model": models, "other": values}), tmp_path / f"{name}.parquet")
        said = []
        for run in (None, run_here):
            pool = open_pool(folder, rewards=tmp_path / f"{name}.parquet")
            with pytest.raises(InputError) as error:
                select(pool, Options(budget=9, reward="other"), run=run)
            said.append(str(error.value))
            chosen = select(
                open_pool(folder, rewards=tmp_path / f"{name}.parquet"),
                Options(budget=9, reward="simulated_reward"),
                run=run,
            )
            assert chosen.facts["notes"] == []  # the second file is not read at all
        assert said[0] == said[1]
        assert said[0].startswith(str(tmp_path / f"{name}.parquet"))


def test_vectors_that_disappear_are_computed_again(letters, few, tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    folder, shelf = cut(made.path, tmp_path / "in", 2), TextModel(letters).shelf
    options = Options(budget=20, clusters=4, embedder=letters)
    with open_pool(folder) as pool:
        good = by_file(pool, options)
        one, other, *_ = Parts(shelf).paths()
        one.write_bytes(one.read_bytes()[:-9])
        damaged = bytearray(other.read_bytes())
        damaged[100] ^= 255
        other.write_bytes(damaged)
        mended = by_file(pool, options)
        assert mended.table.equals(good.table)
        assert len([note for note in mended.facts["notes"] if "is not usable" in note]) == 2
        monkeypatch.setattr("crowdselect.embed.texts.read_vectors", read_and_lose)
        assert by_file(pool, options).table.equals(good.table)


def read_and_lose(path):
    """What a reader sees where another process empties the folder."""
    path.unlink(missing_ok=True)
    raise FileNotFoundError(path)


def test_a_cache_that_cannot_be_written_costs_a_note(letters, tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    (tmp_path / "cache").write_text("in the way")
    with open_pool(cut(made.path, tmp_path / "in", 2)) as pool:
        for cache in (True, False):
            options = Options(budget=20, clusters=4, embedder=letters, cache=cache)
            here, there = select(pool, options), by_file(pool, options)
            assert there.table.equals(here.table)
            assert [note.partition(" (")[0] for note in there.facts["notes"]] == [
                note.partition(" (")[0] for note in here.facts["notes"]
            ]
            assert len(there.facts["notes"]) == cache


# ── baselines ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", [random_choice(), by_reward(), by_reward(direction="down")])
@pytest.mark.parametrize("options", [{"clusters": 0}, {"clusters": 4, "pairs": "best-worst"}])
def test_baselines_that_look_at_no_text_are_those_of_the_whole_pool(method, options, tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=150, duplicates=0.2, answer_chars=80)
    with open_pool(cut(made.path, tmp_path / "in", 5)) as pool:
        options = Options(budget=20, seed=3, **options)
        here = select(pool, options, method=method)
        monkeypatch.setattr(sharded, "LARGE", 10)
        monkeypatch.setattr(sharded.Shards, "texts", None)
        assert_same(here, select(pool, options, method=method))


@pytest.mark.parametrize("models", [12, 1])
def test_a_pool_without_metrics_can_be_drawn_from(models, tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    table = pq.read_table(made.path)
    if models == 1:
        table = table.filter(pa.compute.equal(table["model"], "sim-ash-3b"))
    else:
        table = table.select(["id", "instruction", "model", "response"])
    pq.write_table(table, tmp_path / "bare.parquet")
    with open_pool(cut(tmp_path / "bare.parquet", tmp_path / "in", 3)) as pool:
        options = Options(budget=20, answer="random")
        here = select(pool, options, method=random_choice())
        there = by_file(pool, options, method=random_choice())
        assert_same(here, there)
        assert there.facts["reward"] == ("simulated_reward" if models == 1 else None)


class Ratios:
    """Stands in for a language model: a ratio from lengths."""

    asked: ClassVar[list[str]] = []

    def __init__(self, model, **_):
        pass

    def ratios(self, rows):
        Ratios.asked += [row.answer for row in rows]
        return np.array([len(row.answer) % 10 / 8 for row in rows])


def test_loss_ratios_are_computed_where_the_answers_are_and_kept(tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=120, answer_chars=200)
    monkeypatch.setattr("crowdselect.methods.ifd.IfdModel", Ratios)
    monkeypatch.setattr("crowdselect.methods.ifd.BATCH", 16)
    monkeypatch.setattr(Ratios, "asked", [])
    model = tmp_path / "model"
    model.mkdir()
    here = select(open_pool(made.path), Options(budget=20), method=by_ifd(model=str(model), device="cpu"))
    asked = sorted(Ratios.asked)
    for count in (2, 5):
        Ratios.asked.clear()
        pool = open_pool(cut(made.path, tmp_path / f"in-{count}", count))
        there = by_file(pool, Options(budget=20),
                       method=by_ifd(model=str(model), device="cpu", parts=tmp_path / "parts"))  # fmt: skip
        assert there.table.equals(here.table)
        assert there.options == here.options
        assert sorted(Ratios.asked) == (asked if count == 2 else [])  # the second finds them, in other files
    assert any(reason.startswith("no_score:its loss ratio") for reason in here.table["reason"].to_pylist())


# ── given vectors ────────────────────────────────────────────────────────────────────────────────────


def with_vectors(path, folder, *, scale=1.0):
    """A pool in three files with a column of vectors, and the same in a file of their own with some more."""
    table = pq.read_table(simulate(path, instructions=120, layout="zoo", answer_chars=80).path)
    vectors = np.random.default_rng(0).normal(size=(len(table) + 5, 6)) * scale
    own = pa.array(vectors[:-5].tolist(), pa.list_(pa.float64()))
    pq.write_table(table.append_column("v", own), path)
    ids = [*table["uuid"].to_pylist(), *(f"other-{n}" for n in range(5))]
    order = np.random.default_rng(1).permutation(len(ids))
    both_ = pa.table({"id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(both_.take(order), path.parent / "vectors.parquet")
    return cut(path, folder, 3, by="uuid")


@pytest.mark.parametrize("embedder", ["column:v", "file"])
@pytest.mark.parametrize("clusters", [0, 1, 4])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_given_vectors_choose_as_they_do_in_the_whole_pool(embedder, clusters, scale, few, tmp_path):
    folder = with_vectors(tmp_path / "pool.parquet", tmp_path / "in", scale=scale)
    if embedder == "file":
        embedder = f"file:{tmp_path / 'vectors.parquet'}"
    options = Options(
        budget=20, clusters=clusters, near_duplicates=0.8, embedder=embedder, keep="best_reward=10%.."
    )
    (here, _), (there, _) = both(folder, options)
    assert_same(here, there)
    assert "6 dimensions, as given" in there.facts["embedder"]
    (here, _), (there, _) = both(folder, replace(options, near_duplicates=None))
    assert_same(here, there)


def test_given_vectors_that_cannot_be_used_are_one_line(few, tmp_path):
    folder = with_vectors(tmp_path / "pool.parquet", tmp_path / "in")
    table = pq.read_table(tmp_path / "vectors.parquet")
    pq.write_table(table.slice(30), tmp_path / "few.parquet")
    pq.write_table(table.rename_columns(["id", "numbers"]), tmp_path / "named.parquet")
    np.savez(tmp_path / "v.npz", ids=np.array(["a"]), vectors=np.ones((1, 2)))
    file = sorted(folder.glob("*"))[1]
    short = pq.read_table(file)
    at = short.column_names.index("v")
    pq.write_table(short.set_column(at, "v", pa.array([[1.0, 2.0]] * len(short))), file)
    for embedder, kind, words in (
        (f"file:{tmp_path}/few.parquet", InputError, r"few\.parquet: no vector for id"),
        (f"file:{tmp_path}/named.parquet", InputError, r"named\.parquet: no column 'vector'"),
        (f"file:{tmp_path}/v.npz", OptionError, "is not a Parquet file"),
        ("file:gone", OptionError, "`embedder='file:gone'` is not a Parquet file"),
        ("file:", OptionError, "`embedder='file:'` is not a Parquet file"),
        ("column:v", InputError, "column:v: some vectors have 2 numbers, others 6"),
        ("column:w", InputError, "no column 'w'"),
    ):
        with open_pool(folder) as pool, pytest.raises(kind, match=words):
            by_file(pool, Options(budget=20, clusters=4, embedder=embedder))


# ── by a model ───────────────────────────────────────────────────────────────────────────────────────


class Letters:
    """Stands in for SentenceTransformer: counts of letters; stops after some texts."""

    embedded: ClassVar[list[str]] = []
    most = 10**9

    def __init__(self, name, *, trust_remote_code, revision):
        pass

    def encode(self, texts, *, show_progress_bar, convert_to_numpy):
        if len(self.embedded) + len(texts) > Letters.most:
            raise KeyboardInterrupt
        self.embedded.extend(texts)
        return np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=np.float32)


@pytest.fixture
def letters(monkeypatch, tmp_path):
    """The name of a model that counts letters; batches of 16."""
    library = SimpleNamespace(SentenceTransformer=Letters, __version__="6.0.0")
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setattr(shards, "BLOCK", 16)
    monkeypatch.setattr(Letters, "embedded", [])
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    return str(tmp_path / "model")


@pytest.mark.parametrize("count", SHARDS)
def test_clusters_by_a_model_are_those_of_the_whole_pool_and_no_text_is_embedded_twice(
    count, letters, few, tmp_path
):
    made = simulate(tmp_path / "pool.parquet", instructions=120, duplicates=0.3, answer_chars=80)
    folder = cut(made.path, tmp_path / "in", count)
    options = Options(budget=20, clusters=5, embedder=letters, near_duplicates=0.97)
    pool = open_pool(folder)
    there = by_file(pool, options)
    texts = set(pool.instructions())
    assert sorted(Letters.embedded) == sorted(texts)
    here = select(pool, options)  # finds the vectors where the other put them
    assert len(Letters.embedded) == len(texts)
    assert_same(here, there)
    assert any(reason.startswith("near_duplicate_of") for reason in there.table["reason"].to_pylist())
    uncached = replace(options, cache=False)
    assert_same(select(pool, uncached), by_file(pool, uncached))
    assert not list((tmp_path / "cache").glob("once-*"))


def test_what_was_embedded_before_a_stop_is_kept_whatever_the_files(letters, few, tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=120, answer_chars=80)
    options = Options(budget=20, clusters=5, embedder=letters)
    monkeypatch.setattr(Letters, "most", 70)
    with open_pool(cut(made.path, tmp_path / "in-2", 2)) as pool, pytest.raises(KeyboardInterrupt):
        by_file(pool, options)
    assert 40 < len(Letters.embedded) <= 70
    monkeypatch.setattr(Letters, "most", 10**9)
    with open_pool(cut(made.path, tmp_path / "in-7", 7)) as pool:
        there = by_file(pool, options)
        assert len(Letters.embedded) == len(set(Letters.embedded)) == 120
        assert_same(select(pool, options), there)


def test_a_shelf_that_workers_do_not_share_is_said_at_once(letters, tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    monkeypatch.setattr("crowdselect.embed.texts.write_vectors", lambda *_: None)
    with open_pool(made.path) as pool, pytest.raises(OutputError, match="set CROWDSELECT_CACHE to it"):
        by_file(pool, Options(budget=20, embedder=letters))


def test_of_two_vectors_of_one_text_the_same_one_counts_in_both_ways(letters, few, tmp_path):
    made = simulate(tmp_path / "pool.parquet", instructions=60, answer_chars=80)
    shelf = TextModel(letters).shelf
    with open_pool(made.path) as pool:
        texts = pool.instructions().tolist()
        keys = [key_of(text) for text in texts]
        rng = np.random.default_rng(0)
        for some in (slice(0, 60), slice(0, 40), slice(20, 60)):
            write_vectors(Parts(shelf), keys[some], rng.normal(size=(60, 26)).astype(np.float32)[some])
        options = Options(budget=20, clusters=4, embedder=letters, near_duplicates=0.9)
        assert_same(select(pool, options), by_file(pool, options))
    assert Letters.embedded == []


@pytest.mark.parametrize("clusters", [1, 6])
def test_a_large_pool_of_one_file_holds_no_vectors_and_has_the_same_clusters(clusters, sim, monkeypatch):
    with open_pool(sim) as pool:
        whole = select(pool, Options(budget=9, clusters=clusters))
        monkeypatch.setattr("crowdselect.embed.vectors.KEPT", 100)
        monkeypatch.setattr("crowdselect.embed.reading.BATCH", 7)
        monkeypatch.setattr("crowdselect.embed.texts.write_vectors", None)
        monkeypatch.setattr("crowdselect.embed.texts.read_vectors", None)
        assert select(pool, Options(budget=9, clusters=clusters)).table.equals(whole.table)


@given(st.lists(st.one_of(st.none(), st.text(alphabet="aA b\u00e9\uff21", max_size=4)), max_size=30))
def test_groups_are_those_of_the_texts_themselves(texts):
    first = {}
    wanted = [row if t is None else first.setdefault(normalised(t), row) for row, t in enumerate(texts)]
    assert duplicate_groups(np.array([*texts, None], dtype=object)[:-1]).tolist() == wanted


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


def test_ids_spelt_3_and_3_0_are_joined_file_by_file_as_in_the_whole(tmp_path):
    rows = [
        {"id": str(n), "instruction": f"Say {n}", "model": model, "response": f"{n}", "score": 0.5}
        for n in range(40)
        for model in ("m-1b", "m-3b", "m-7b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    folder = cut(tmp_path / "pool.parquet", tmp_path / "in", 3)
    rng = np.random.default_rng(0)
    for name, form in (("float", float), ("text", lambda n: f"{n}.0")):
        rewards = [{"id": form(int(row["id"])), "model": row["model"], "grade": rng.normal()} for row in rows]
        rewards.append({"id": form(99), "model": "m-1b", "grade": 1.0})
        pq.write_table(pa.Table.from_pylist(rewards), tmp_path / f"{name}.parquet")
        options = Options(budget=9, clusters=0, reward="grade")
        (here, _), (there, _) = both(folder, options, rewards=tmp_path / f"{name}.parquet")
        assert there.counts()["selected"] == 9
        assert_same(here, there)
        told = sum("differ from the pool's only as 3 and 3.0 do" in note for note in there.facts["notes"])
        assert told == (name == "text")  # a number has one spelling
        assert any("1 row of" in note for note in there.facts["notes"])
