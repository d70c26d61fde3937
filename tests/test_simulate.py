"""The simulated crowd: readable, marked, the same whatever its size and layout, with a truth to recover."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from crowdselect.errors import OptionError, OutputError
from crowdselect.numeric.metrics import difficulty, separability, stability
from crowdselect.pool.pool import open_pool
from crowdselect.simulate import draws as simulated_draws
from crowdselect.simulate.pool import Simulation, simulate


def matrix(made: Simulation) -> np.ndarray:
    table = pq.read_table(made.path)
    return np.column_stack([table[name].to_numpy() for name in made.crowd.names])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("demo") / "pool.parquet")


@pytest.fixture(scope="module")
def rows(demo: Simulation) -> list[dict]:
    return pq.read_table(demo.path).to_pylist()


def test_the_demo_pool_is_what_it_says(demo: Simulation, rows: list[dict]) -> None:
    assert len(rows) == 2000 * 12
    assert list(rows[0]) == [
        "id",
        "instruction",
        "topic",
        "model",
        "response",
        "simulated_reward",
        "simulated",
    ]
    assert len({(row["id"], row["model"]) for row in rows}) == len(rows)
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids)
    assert demo.files == (demo.path,)
    sizes = {member.name: (member.family, member.size_b) for member in demo.crowd.members}
    assert sizes["sim-oak-7b"] == ("sim-oak", 7.0)
    assert Counter(family for family, _ in sizes.values()) == dict.fromkeys(
        ["sim-oak", "sim-ash", "sim-elm", "sim-fir"], 3
    )


def test_all_of_it_is_marked_as_simulated(rows: list[dict], demo: Simulation) -> None:
    assert all(row["simulated"] is True for row in rows)
    assert all(row["model"].startswith("sim-") for row in rows)
    answers = [row for row in rows if row["response"]]
    assert all(row["response"].startswith(f"[simulated answer of {row['model']}] ") for row in answers)
    assert pq.read_schema(demo.path).metadata[b"simulated"] == b"true"


def test_text_is_readable_and_differs(rows: list[dict]) -> None:
    instructions = {row["id"]: row["instruction"] for row in rows}
    assert all("{" not in text and text.endswith((".", "?")) for text in instructions.values())
    assert np.mean([len(text.split()) for text in instructions.values()]) == pytest.approx(31, abs=3)
    answers = [row["response"] for row in rows if row["response"]]
    assert len(set(answers)) > 0.999 * len(answers)
    assert np.mean([len(text) for text in answers]) == pytest.approx(400, rel=0.1)


def test_a_few_things_are_wrong_with_it(demo: Simulation, rows: list[dict]) -> None:
    truth = demo.truth
    assert sum(row["simulated_reward"] is None for row in rows) / len(rows) == pytest.approx(0.005, abs=0.002)
    assert sum(row["response"] == "" for row in rows) / len(rows) == pytest.approx(0.005, abs=0.002)
    assert truth.ill_posed.mean() == pytest.approx(0.02, abs=0.01)
    text = [row["instruction"] for row in rows[::12]]
    copies = np.flatnonzero(truth.repeats >= 0)
    assert len(copies) / 2000 == pytest.approx(0.02, abs=0.01)
    assert np.all(truth.repeats[copies] < copies)
    same = [" ".join(text[row].split()) == " ".join(text[truth.repeats[row]].split()) for row in copies]
    assert 0.2 < np.mean(same) < 0.8
    assert all(
        " ".join(text[truth.repeats[row]].split())[:-1] in " ".join(text[row].split()) for row in copies
    )


def test_metrics_recover_the_truth(demo: Simulation, rows: list[dict]) -> None:
    scores = np.array([row["simulated_reward"] for row in rows], dtype=float).reshape(2000, 12)
    truth, crowd = demo.truth, demo.crowd
    well = ~truth.ill_posed
    assert spearmanr(difficulty(scores)[well], truth.difficulty[well]).statistic > 0.9
    assert spearmanr(separability(scores)[well], truth.discrimination[well]).statistic > 0.6
    order = stability(scores, sizes=crowd.sizes, families=crowd.families)
    assert np.nanmean(order[well]) > 0.4
    assert abs(np.nanmean(order[~well])) < 0.25
    assert np.nanmean(scores[~well]) < np.nanmin(np.nanmean(scores, axis=0)) - 5
    assert spearmanr(np.nanmean(scores, axis=0), truth.abilities).statistic > 0.95


def test_one_family_is_nearly_flat(demo: Simulation) -> None:
    spread = {
        family: np.ptp(
            [a for a, f in zip(demo.truth.abilities, demo.crowd.families, strict=True) if f == family]
        )
        for family in set(demo.crowd.families)
    }
    flattest, *others = sorted(spread.values())
    assert flattest < 0.1
    assert min(others) > 0.7


def test_words_tell_the_topics_apart(rows: list[dict], demo: Simulation) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(min_df=5).fit_transform([row["instruction"] for row in rows[::12]])
    model = LogisticRegression().fit(vectors[:1000], demo.truth.topic[:1000])
    assert model.score(vectors[1000:], demo.truth.topic[1000:]) > 0.98
    assert [demo.truth.topics[place] for place in demo.truth.topic[:50]] == [
        row["topic"] for row in rows[: 50 * 12 : 12]
    ]


@pytest.mark.parametrize("layout", ["long", "zoo", "matrix"])
def test_row_i_does_not_depend_on_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    large = simulate(tmp_path / "large.parquet", instructions=2100, families=1, sizes=2, layout=layout)
    monkeypatch.setattr(simulated_draws, "_BATCH_CELLS", 1)
    small = simulate(tmp_path / "small.parquet", instructions=2055, families=1, sizes=2, layout=layout)
    per = 2 if layout == "long" else 1
    assert pq.read_table(large.path).slice(0, 2055 * per).equals(pq.read_table(small.path).combine_chunks())
    np.testing.assert_array_equal(large.truth.repeats[:2055], small.truth.repeats)


def test_same_seed_same_file_other_seed_other_pool(tmp_path: Path) -> None:
    files = [
        simulate(tmp_path / f"{n}.parquet", instructions=50, seed=seed).path.read_bytes()
        for n, seed in enumerate([3, 3, -3])
    ]
    assert files[0] == files[1] != files[2]


def test_layouts_hold_the_same_pool(tmp_path: Path) -> None:
    options = {"instructions": 40, "families": 2, "sizes": 2, "missing": 0.1, "seed": 5}
    long = pq.read_table(simulate(tmp_path / "long.parquet", layout="long", **options).path).to_pylist()
    zoo = pq.read_table(simulate(tmp_path / "zoo.parquet", layout="zoo", **options).path).to_pylist()
    wide = pq.read_table(simulate(tmp_path / "matrix.parquet", layout="matrix", **options).path).to_pylist()
    assert list(zoo[0])[:3] == ["uuid", "instruction", "topic"]
    for row in long:
        number = int(row["id"].removeprefix("sim-"))
        assert zoo[number]["uuid"] == wide[number]["id"] == row["id"]
        assert zoo[number]["instruction"] == wide[number]["instruction"] == row["instruction"]
        assert zoo[number][row["model"]] == {
            "content": row["response"],
            "simulated_reward": row["simulated_reward"],
        }
        assert wide[number][row["model"]] == row["simulated_reward"]


def test_jsonl_and_csv_hold_what_parquet_holds(tmp_path: Path) -> None:
    options = {"instructions": 30, "missing": 0.1, "empty": 0.1}
    rows = pq.read_table(simulate(tmp_path / "a.parquet", **options).path).to_pylist()
    lines = simulate(tmp_path / "a.jsonl", **options).path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    with simulate(tmp_path / "a.csv", **options).path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["response"] for row in read] == [row["response"] for row in rows]
    assert [float(row["simulated_reward"]) if row["simulated_reward"] else None for row in read] == [
        row["simulated_reward"] for row in rows
    ]


@pytest.mark.parametrize(
    "name", ["long.parquet", "long.jsonl", "long.csv", "zoo.parquet", "zoo.jsonl", "matrix.csv"]
)
def test_a_pool_opens_as_what_was_written(tmp_path: Path, name: str) -> None:
    layout = name.partition(".")[0]
    made = simulate(tmp_path / name, instructions=30, layout=layout, missing=0.1, empty=0.1)
    wide = simulate(tmp_path / "wide.parquet", instructions=30, layout="matrix", missing=0.1)
    with open_pool(made.path) as pool:
        assert (pool.layout, list(pool.models)) == (layout, made.crowd.names)
        assert layout == "matrix" or pool.reward_columns == ("simulated_reward",)
        np.testing.assert_array_equal(pool.scores(), matrix(wide))
        if pool.has_responses:
            assert pool.answered().mean() == pytest.approx(0.9, abs=0.05)


def test_shards_hold_the_same_rows(tmp_path: Path) -> None:
    whole = simulate(tmp_path / "one.parquet", instructions=100, layout="zoo")
    (tmp_path / "many").mkdir()
    parts = simulate(tmp_path / "many", instructions=100, layout="zoo", shards=3)
    assert [file.name for file in parts.files] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert sorted(parts.path.iterdir()) == list(parts.files)
    assert pq.read_table(parts.path).equals(pq.read_table(whole.path))


def test_samples(tmp_path: Path) -> None:
    rows = pq.read_table(
        simulate(tmp_path / "a.parquet", instructions=5, samples=3, empty=0).path
    ).to_pylist()
    assert len({(row["id"], row["model"], row["sample"]) for row in rows}) == len(rows) == 5 * 12 * 3
    assert len({row["response"] for row in rows}) == len(rows)


def test_without_text(tmp_path: Path) -> None:
    options = {"instructions": 5, "with_text": False}
    assert pq.read_schema(simulate(tmp_path / "l.parquet", **options).path).names == [
        "id",
        "topic",
        "model",
        "simulated_reward",
        "simulated",
    ]
    made = simulate(tmp_path / "m.parquet", layout="matrix", **options)
    assert pq.read_schema(made.path).names == ["id", "topic", *made.crowd.names, "simulated"]


def test_the_papers_crowd(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.parquet", instructions=3, crowd="paper", layout="matrix", with_text=False)
    assert len(made.crowd.members) == 19
    assert sorted(Counter(made.crowd.families).values()) == [2, 3, 3, 3, 3, 5]
    assert not np.isnan(made.crowd.sizes).any()
    assert matrix(made).shape == (3, 19)


def test_models_by_name(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a.parquet", instructions=3, models=["sim-b", "sim-a-7b"], layout="matrix")
    assert made.crowd.names == ["sim-a-7b", "sim-b"]
    assert made.crowd.families == ["sim-a", None]
    assert np.isfinite(made.truth.abilities).all()


def test_shares_may_be_zero_or_one(tmp_path: Path) -> None:
    clean = simulate(
        tmp_path / "a.parquet", instructions=300, layout="matrix", ill_posed=0, duplicates=0, missing=0
    )
    assert not np.isnan(matrix(clean)).any()
    assert not clean.truth.ill_posed.any()
    assert np.all(clean.truth.repeats == -1)
    poor = simulate(tmp_path / "b.parquet", instructions=300, layout="matrix", duplicates=1, missing=1)
    assert np.isnan(matrix(poor).astype(float)).all()
    np.testing.assert_array_equal(poor.truth.repeats, [-1, *[0] * 299])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instructions": 0}, "`instructions` is 0; wanted 1 to 999999999"),
        ({"layout": "wide"}, "`layout` is 'wide'; wanted one of long, zoo, matrix"),
        ({"answer_chars": 79}, "`answer_chars` is 79; wanted at least 80"),
        ({"samples": 0}, "`samples` is 0"),
        ({"samples": 2, "layout": "zoo"}, r"`samples` is 2; .* \(this is 'zoo'\)"),
        ({"shards": 0}, "`shards` is 0"),
        ({"shards": 3, "instructions": 2}, "the number of instructions, 2"),
        ({"missing": 1.5}, "`missing` is 1.5; wanted a share from 0 to 1"),
        ({"empty": float("nan")}, "`empty` is nan"),
        ({"crowd": "real"}, "`crowd` is 'real'; wanted 'demo' or 'paper'"),
        ({"families": 13}, "`families` is 13; wanted 1 to 12"),
        ({"sizes": 5}, "`sizes` is 5; wanted 1 to 4"),
        ({"models": ["sim-a", "gpt-4o"]}, "model 'gpt-4o' is simulated: its name must begin with 'sim-'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        simulate(tmp_path / "a.parquet", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_place_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.txt': `layout='long'` is written as"):
        simulate(tmp_path / "a.txt", instructions=2)
    with pytest.raises(OptionError, match=r"a\.csv': `layout='zoo'` is written as"):
        simulate(tmp_path / "a.csv", instructions=2, layout="zoo")
    made = simulate(tmp_path / "new" / "a.parquet", instructions=2)
    with pytest.raises(OutputError, match=r"a\.parquet' already; pass `overwrite=True`"):
        simulate(made.path, instructions=3)
    assert pq.read_metadata(simulate(made.path, instructions=3, overwrite=True).path).num_rows == 36
    with pytest.raises(OutputError, match="shards go into a new or empty folder"):
        simulate(tmp_path / "new", instructions=3, shards=2, overwrite=True)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(simulate.__globals__["LAYOUTS"], "long", fail)
    for name, shards in (("a.parquet", 1), ("b", 2)):
        with pytest.raises(KeyboardInterrupt):
            simulate(tmp_path / name, instructions=3, shards=shards)
    assert list(tmp_path.iterdir()) == []
