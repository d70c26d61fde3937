"""Numbers per instruction by name: in weights, bands, bins and columns of metrics; each by brute force."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.engine.here import run_here
from crowdselect.errors import InputError, OptionError
from crowdselect.numeric.clusters import binned
from crowdselect.selection.keep import band_of
from crowdselect.selection.look import look_at
from crowdselect.selection.numbers import NUMBERS, forms
from crowdselect.selection.rows import metrics_table

SMALL, LARGE = "qwen2.5:7b", "qwen2.5:72b"  # as Ollama names them: with colons
MODELS = (SMALL, LARGE)


def write(path, *, n=40, samples=4, seed=0, score=None):
    """A pool of right and wrong answers; and its rows."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "id": f"q{i:03d}",
            "instruction": f"Question {i}?",
            "model": model,
            "sample": sample,
            "response": "x" * int(rng.integers(1, 30)),
            "score": None
            if rng.random() < 0.1
            else float(rng.random() < i / n)
            if score is None
            else score(rng),
            "topic:3": "even" if i % 2 else "odd",
        }
        for i in range(n)
        for model in MODELS
        for sample in range(samples)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return rows


def cell(rows, id_, model):
    return [r["score"] for r in rows if (r["id"], r["model"]) == (id_, model) and r["score"] is not None]


def chosen(path, **options):
    given = {"budget": 1, "clusters": 0, "weights": {"difficulty": 1.0}, "cache": False, **options}
    with open_pool(path) as pool:
        return select(pool, Options(**given))


def rate(own):
    return np.mean([score == 1 for score in own]) if own else None


def test_every_number_is_what_it_says(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    also = [
        "best_reward",
        "rewards",
        "length",
        f"reward:{SMALL}",
        "pass_rate",
        f"pass_rate:{LARGE}",
        "learnability",
        f"learnability:{SMALL}",
    ]
    with open_pool(tmp_path / "pool.parquet") as pool:
        _, found = look_at(pool, options=None, also=also)
    for row in metrics_table(found, also=also).to_pylist():
        small, large = (cell(rows, row["id"], model) for model in MODELS)
        rates = [rate(own) for own in (small, large) if own]
        assert row["rewards"] == row["n_rewards"] == len(rates)
        assert row["best_reward"] == max([*small, *large], default=None)
        assert row[f"reward:{SMALL}"] == (pytest.approx(np.mean(small)) if small else None)
        assert row[f"pass_rate:{LARGE}"] == rate(large)
        assert row["pass_rate"] == (pytest.approx(np.mean(rates)) if rates else None)
        p = rate(small)
        assert row[f"learnability:{SMALL}"] == (None if p is None else pytest.approx(p * (1 - p)))
        if row["pass_rate"] is not None:
            assert row["learnability"] == pytest.approx(row["pass_rate"] * (1 - row["pass_rate"]))


def test_the_length_is_that_of_the_answer_that_is_trained_on(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    lengths = {(r["id"], r["model"], r["sample"]): len(r["response"]) for r in rows}
    for row in chosen(tmp_path / "pool.parquet", keep=("length=1..",)).table.to_pylist():
        if row["model"] is not None:
            assert row["length"] == lengths[row["id"], row["model"], row["sample"]]
    table = pq.read_table(tmp_path / "pool.parquet")
    first = table.filter(pa.compute.equal(table["sample"], 0)).drop_columns(["sample"])
    pq.write_table(first, tmp_path / "single.parquet")
    for row in chosen(tmp_path / "single.parquet", keep=("length=1..",)).table.to_pylist():
        if row["model"] is not None:
            assert row["length"] == lengths[row["id"], row["model"], 0]


def test_the_margin_is_that_of_the_pair(tmp_path):
    write(tmp_path / "pool.parquet", score=lambda rng: float(rng.integers(9)))
    found = chosen(tmp_path / "pool.parquet", pairs="best-worst", keep=("margin=3..6",)).table.to_pylist()
    seen = set()
    for row in found:
        if row["margin"] is not None:
            assert (row["reason"] == "outside:margin") == (not 3 <= row["margin"] <= 6)
            seen.add(row["reason"].partition(":")[0])
        if row["rejected_reward"] is not None:
            assert row["margin"] == row["reward"] - row["rejected_reward"]
    assert "outside" in seen


@pytest.mark.parametrize(
    "band",
    ["0.25..0.75", "..0.5", "0.5..", "20%..", "..80%", "10%..0.75", "33.3%..66.6%", "0..0"],
)
def test_a_band_keeps_what_lies_between_its_ends(band, tmp_path):
    rows = write(tmp_path / "pool.parquet")
    name = f"pass_rate:{SMALL}"
    found = {
        row["id"]: row["reason"]
        for row in chosen(tmp_path / "pool.parquet", keep=(f"{name}={band}",)).table.to_pylist()
    }
    rates = {id_: rate(cell(rows, id_, SMALL)) for id_ in found}
    known = np.array([value for value in rates.values() if value is not None])
    low, high = band.split("..")
    bottom = (
        -np.inf
        if not low
        else float(low)
        if low[-1] != "%"
        else np.quantile(known, float(low[:-1]) / 100, method="higher")
    )
    top = (
        np.inf
        if not high
        else float(high)
        if high[-1] != "%"
        else np.quantile(known, float(high[:-1]) / 100, method="lower")
    )
    for id_, reason in found.items():
        if reason.startswith(("too_few", "no_answer")):
            continue
        if rates[id_] is None:
            assert reason == f"no_number:{name}"
        else:
            assert (reason == f"outside:{name}") == (not bottom <= rates[id_] <= top)


def test_several_bands_hold_at_once_and_the_first_gives_the_reason(tmp_path):
    write(tmp_path / "pool.parquet")
    one, other = "best_reward=1..", "pass_rate=..0.5"
    both = chosen(tmp_path / "pool.parquet", keep=(one, other)).table
    turned = chosen(tmp_path / "pool.parquet", keep=(other, one)).table
    kept = [
        {row["id"] for row in table.to_pylist() if row["reason"] in {"selected", "below_cut"}}
        for table in (both, turned)
    ]
    assert kept[0] == kept[1] != set()
    assert {"outside:best_reward", "outside:pass_rate"} <= set(both["reason"].to_pylist())


def test_rewards_in_a_band_take_the_place_of_the_usual_two(tmp_path):
    rows = write(tmp_path / "pool.parquet", samples=1, score=lambda rng: None if rng.random() < 0.4 else 1.0)
    counts = {row["id"]: sum(bool(cell(rows, row["id"], model)) for model in MODELS) for row in rows}
    weights = {"difficulty": 1.0}
    for keep, wanted, reason in (
        ((), 2, "too_few_rewards"),
        (("rewards=1..",), 1, "outside:rewards"),
        (("rewards=2..",), 2, "outside:rewards"),
    ):
        found = chosen(tmp_path / "pool.parquet", keep=keep, weights=weights).table.to_pylist()
        few = {row["id"] for row in found if row["reason"] in {reason, "too_few_rewards"}}
        assert few == {id_ for id_, count in counts.items() if count < wanted}


def test_numbers_have_weights_and_ranks(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    name = f"learnability:{LARGE}"
    found = chosen(tmp_path / "pool.parquet", budget=5, weights={name: 1.0})
    assert {name, f"{name}_rank"} <= set(found.table.column_names)
    best = max(row[name] for row in found.table.to_pylist() if row["score"] is not None)
    assert all(row[name] == best for row in found.rows()[:1])
    p = rate(cell(rows, found.chosen[0], LARGE))
    assert best == pytest.approx(p * (1 - p))
    assert found.options["weights"][name] == 1.0


def test_a_column_of_the_file_of_metrics_wins_over_a_number_of_its_name(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    ids = sorted({row["id"] for row in rows})
    mine = pa.table(
        {"id": ids, "length": [float(i) for i in range(len(ids))], f"reward:{SMALL}": [2.0] * len(ids)}
    )
    pq.write_table(mine, tmp_path / "mine.parquet")
    more = {"metrics": str(tmp_path / "mine.parquet"), "weights": {"length": 1.0}}
    found = chosen(tmp_path / "pool.parquet", keep=("length=10..20", f"reward:{SMALL}=2..2"), **more)
    kept = [row["id"] for row in found.table.to_pylist() if row["score"] is not None]
    assert kept
    assert all(10 <= ids.index(id_) <= 20 for id_ in kept)


@pytest.mark.parametrize("bins", [1, 3, 5])
def test_bins_of_a_number_are_clusters_of_equal_count(bins, tmp_path):
    write(tmp_path / "pool.parquet", n=60, score=lambda rng: float(rng.random()))
    found = chosen(tmp_path / "pool.parquet", budget=15, cluster_by=f"difficulty:{bins}", clusters=10)
    table = [row for row in found.table.to_pylist() if row["score"] is not None]
    sizes = np.bincount([row["cluster"] for row in table])
    assert len(sizes) == bins
    assert sizes.max() - sizes.min() <= 1
    assert found.facts["quotas"] == {str(label): 15 // bins for label in range(bins)}
    ends = [
        (
            min(r["difficulty"] for r in table if r["cluster"] == label),
            max(r["difficulty"] for r in table if r["cluster"] == label),
        )
        for label in range(bins)
    ]
    assert all(one[1] < other[0] for one, other in pairwise(ends))


def test_a_column_that_has_the_whole_name_wins_over_bins(tmp_path):
    write(tmp_path / "pool.parquet")
    found = chosen(tmp_path / "pool.parquet", cluster_by="topic:3")
    assert found.facts["cluster_names"] == ["even", "odd"]
    by_model = chosen(tmp_path / "pool.parquet", budget=4, cluster_by=f"pass_rate:{SMALL}:2")
    assert len(by_model.facts["cluster_names"]) == 2


@given(
    st.lists(st.one_of(st.just(float("nan")), st.integers(-3, 3).map(float)), max_size=30), st.integers(1, 9)
)
def test_equal_values_share_a_bin_and_bins_are_in_order(values, count):
    found = binned(np.array(values, dtype=np.float64), count)
    pairs = [(value, name) for value, name in zip(values, found, strict=True) if value == value]  # noqa: PLR0124
    assert all((name is None) == (value != value) for value, name in zip(values, found, strict=True))  # noqa: PLR0124
    assert len({name for _, name in pairs}) <= count
    for value, name in pairs:
        for other, its in pairs:
            assert (value != other) or name == its
            assert name <= its or value > other


@pytest.mark.parametrize(
    ("text", "name", "low", "high"),
    [
        ("a=1..2", "a", (1.0, False), (2.0, False)),
        ("a=-1.5e3..", "a", (-1500.0, False), None),
        ("a=..7%", "a", None, (0.07, True)),
        ("reward:qwen2.5:7b=x=0..1", "reward:qwen2.5:7b=x", (0.0, False), (1.0, False)),
    ],
)
def test_a_band_is_parted_at_the_last_equals_sign(text, name, low, high):
    band = band_of(text)
    assert band.name == name
    for end, wanted in ((band.low, low), (band.high, high)):
        assert wanted == (None if end is None else (end.value, end.quantile))


@pytest.mark.parametrize(
    ("former", "band"),
    [
        ({"min_best_reward": 0.5}, "best_reward=0.5.."),
        ({"min_best_quantile": 0.07}, "best_reward=7%.."),
        ({"min_rewards": 3}, "rewards=3.."),
    ],
)
def test_options_that_are_no_more_say_the_band(former, band):
    with pytest.raises(OptionError, match=f"write `keep='{band}'`".replace(".", r"\.")):
        Options(budget=1, **former)


def test_pass_rates_of_rewards_beyond_0_and_1_are_refused_with_what_makes_them_so(tmp_path):
    write(tmp_path / "pool.parquet", score=lambda rng: float(rng.integers(11)))
    with pytest.raises(OptionError, match=r"score goes from 0 to 10: `reward=score:up/10` makes it so"):
        chosen(tmp_path / "pool.parquet", keep=("pass_rate=..0.5",))
    found = chosen(tmp_path / "pool.parquet", reward="score:up/10", keep=("pass_rate=..0.5",))
    assert found.counts()["selected"] == 1


def test_robustness_and_bands(tmp_path):
    write(tmp_path / "pool.parquet", n=60)
    keep = ("best_reward=1..", "pass_rate=10%..90%", "within=0..", f"pass_rate:{SMALL}=..0.9")
    options = Options(budget=9, clusters=0, weights={"within": 1.0}, keep=keep)
    with open_pool(tmp_path / "pool.parquet") as pool:
        found = robustness(pool, options, bootstraps=2, seeds=1, clusters=())
        expected = {row["id"] for row in select(pool, options).table.to_pylist() if row["selected"]}
        eligible = {row["id"] for row in select(pool, options).table.to_pylist() if row["score"] is not None}
    assert set(found.chosen) == expected
    assert found.eligible == len(eligible)
    assert [variant for variant in found.variants if variant.axis == "model" and variant.kept is not None]


def test_robustness_makes_numbers_anew_as_a_selection_does(tmp_path):
    """Every variant is what `select` chooses from a pool that is so, lengths and numbers of a named model too."""
    rows = write(tmp_path / "pool.parquet", n=60)
    rng = np.random.default_rng(3)
    more = [
        {
            **row,
            "model": f"llama-{size}b",
            "response": "x" * int(rng.integers(1, 30)),
            "score": float(rng.random() < 0.5),
        }
        for row in rows[::2]
        for size in (3, 70)
    ]
    for row in more:
        row["sample"] = 7 + len(row["response"])
    more = list({(row["id"], row["model"], row["sample"]): row for row in more}.values())
    every = [
        {**row, "other": row["score"] if row["score"] is None or rng.random() < 0.9 else 1 - row["score"]}
        for row in [*rows, *more]
    ]
    pq.write_table(pa.Table.from_pylist(every), tmp_path / "pool.parquet")
    left = [row for row in every if row["model"] != "llama-70b"]
    pq.write_table(pa.Table.from_pylist(left), tmp_path / "without.parquet")
    keep = ("length=3..25", f"reward:{SMALL}=0..1", f"learnability:{SMALL}=0..", "rewards=1..")
    weights = {"length": 1.0, f"pass_rate:{SMALL}": 1.0, "difficulty": 1.0}
    options = {"budget": 9, "clusters": 0, "weights": weights, "keep": keep, "cache": False}
    with open_pool(tmp_path / "pool.parquet") as pool:
        found = robustness(pool, Options(reward="score", **options), bootstraps=1, seeds=0, clusters=())
        whole = select(pool, Options(reward="score", **options))
        eligible = [row["id"] for row in whole.table.to_pylist() if row["score"] is not None]
        (tmp_path / "eligible.txt").write_text("\n".join(eligible))  # no other row is in any variant
        options["include"] = str(tmp_path / "eligible.txt")
        other = select(pool, Options(reward="other", **options))
    with open_pool(tmp_path / "without.parquet") as pool:
        without = select(pool, Options(reward="score", **options))
    kept = {(variant.axis, variant.name): variant.kept for variant in found.variants}
    assert set(found.chosen) == set(whole.chosen)
    for made, variant in ((other, ("reward", "other")), (without, ("model", "llama-70b"))):
        assert kept[variant] == len(set(made.chosen) & set(whole.chosen)) / 9
        assert 0 < kept[variant] < 1


def test_robustness_refuses_a_reward_that_has_no_full_marks(tmp_path):
    rows = write(tmp_path / "pool.parquet", n=60)
    marked = [{**row, "stars": None if row["score"] is None else 4 * row["score"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(marked), tmp_path / "pool.parquet")
    options = Options(
        budget=9, clusters=0, weights={"difficulty": 1.0}, keep=("pass_rate=..0.9",), reward="score"
    )
    with open_pool(tmp_path / "pool.parquet") as pool:
        found = robustness(pool, options, bootstraps=0, seeds=0, clusters=())
    (other,) = (variant for variant in found.variants if variant.axis == "reward")
    assert other.kept is None
    assert "pass_rate is a share of right answers" in other.why
    assert "stars goes from 0 to 4" in other.why


def test_compare_names_bands_and_their_numbers(tmp_path, run):
    write(tmp_path / "pool.parquet", n=60)
    asked = ("--budget", 9, "--clusters", 0, "--weights", "difficulty=1")
    bands = ("--keep", "pass_rate=0.3..0.7", "--keep", "best_reward=10%..")
    assert run("select", tmp_path / "pool.parquet", *asked, *bands, "-o", tmp_path / "banded").code == 0
    assert run("select", tmp_path / "pool.parquet", *asked, "-o", tmp_path / "plain").code == 0
    folders = (tmp_path / "banded", tmp_path / "plain")
    told = json.loads(run("compare", *folders, "--clusters", 2, "--json").out)
    assert [side["keep"] for side in told["selections"]] == [["pass_rate=0.3..0.7", "best_reward=10%.."], []]
    assert told["figures"]["pass_rate"] == "pass_rate, mean"
    rates = {
        row["id"]: row["pass_rate"] for row in pq.read_table(folders[0] / "selection.parquet").to_pylist()
    }
    for side, folder in zip(told["selections"], folders, strict=True):
        table = pq.read_table(folder / "selection.parquet").to_pylist()
        own = [rates[row["id"]] for row in table if row["selected"] and rates[row["id"]] is not None]
        assert side["figures"]["pass_rate"] == pytest.approx(np.mean(own))
    said = run("compare", *folders, "--clusters", 2).out
    assert "banded: only rows with pass_rate=0.3..0.7, best_reward=10%.." in said
    assert "pass_rate " in said
    run("compare", *folders, "--clusters", 2, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "only rows with pass_rate=0.3..0.7 and best_reward=10%.." in page


def test_every_name_is_a_column_of_metrics(tmp_path, run):
    """Also of models with colons and slashes in their names."""
    names = {SMALL: "ollama/qwen2.5:1.5b", LARGE: "ollama/qwen2.5:7b-q4=x"}
    rows = write(tmp_path / "pool.parquet")
    pq.write_table(
        pa.Table.from_pylist([{**row, "model": names[row["model"]]} for row in rows]),
        tmp_path / "colons.parquet",
    )
    also = [
        name
        for name, one in NUMBERS.items()
        if one.model != "must" and not (one.pairs or one.ensemble or one.student)
    ]
    also += [f"{name}:{model}" for name in NUMBERS if NUMBERS[name].model != "no" for model in names.values()]
    also += ["difficulty", "within"]
    out = tmp_path / "m.parquet"
    ran = run("metrics", tmp_path / "colons.parquet", "-o", out, "--also", ",".join(also))
    assert ran.code == 0, ran.err
    table = pq.read_table(out)
    assert set(also) <= set(table.column_names)
    for row in table.to_pylist():
        for model, name in names.items():
            own = cell(rows, row["id"], model)
            assert row[f"reward:{name}"] == (pytest.approx(np.mean(own)) if own else None)
            assert row[f"pass_rate:{name}"] == rate(own)
    found = chosen(
        tmp_path / "colons.parquet",
        budget=2,
        keep=(f"pass_rate:{names[LARGE]}=0..1",),
        cluster_by=f"pass_rate:{names[LARGE]}:2",
    )
    assert len(found.facts["cluster_names"]) == 2


def test_ties_make_fewer_bins(tmp_path):
    rows = write(tmp_path / "pool.parquet", n=60, samples=1, score=lambda rng: float(rng.random() < 0.9))
    found = chosen(tmp_path / "pool.parquet", budget=4, cluster_by=f"reward:{SMALL}:5")
    assert len(found.facts["cluster_names"]) == 2  # as many as there are values
    for row in found.table.to_pylist():
        if row["cluster"] is not None:
            assert row["cluster"] == cell(rows, row["id"], SMALL)[0]


def test_the_commands(tmp_path, run):
    write(tmp_path / "pool.parquet")
    told = json.loads(run("inspect", tmp_path / "pool.parquet", "--json").out)
    assert told["numbers"] == forms(ensemble=False)
    assert set(NUMBERS) == {name.partition(":")[0] for name in forms()} - {
        "difficulty",
        "separability",
        "stability",
        "within",
    }
    ran = run(
        "metrics", tmp_path / "pool.parquet", "-o", tmp_path / "m.csv", "--also", f"length, pass_rate:{SMALL}"
    )
    assert ran.code == 0, ran.err
    assert (tmp_path / "m.csv").read_text().startswith('"id","n_rewards"')
    assert f'"length","pass_rate:{SMALL}"' in (tmp_path / "m.csv").read_text()
    run("metrics", tmp_path / "pool.parquet", "-o", tmp_path / "n.csv", "--also", "lenght").refuses(
        "--also: no number 'lenght'", "did you mean 'length'?"
    )
    out = tmp_path / "out"
    asked = (
        "--budget",
        3,
        "--clusters",
        0,
        "--weights",
        "difficulty=1",
        "--keep",
        "pass_rate=0.2..0.6",
        "-o",
        out,
    )
    assert run("select", tmp_path / "pool.parquet", *asked).code == 0
    table = pq.read_table(out / "selection.parquet").to_pylist()
    outside = next(row for row in table if row["reason"] == "outside:pass_rate")
    said = run("why", out, outside["id"]).out
    assert f"its pass_rate is {outside['pass_rate']:.6g}; make its band of `keep` wider" in said.replace(
        "--keep", "`keep`"
    )


@pytest.fixture
def cases():
    folder = os.environ.get("CROWDSELECT_CASES")
    if not folder:
        pytest.skip("CROWDSELECT_CASES is not set: the reported inputs are not here")
    return Path(folder)


def test_within_of_models_that_are_right_half_of_the_time(cases):
    found = {}
    with open_pool(cases / "71_within_model_variance") as pool:
        for row in metrics_table(look_at(pool, options=None)[1]).to_pylist():
            found.setdefault((row["within"], row["separability"]), []).append(row["id"])
    assert found == {(0.25, 0.0): ["q0", "q1", "q2"], (0.0, 0.25): ["q3", "q4", "q5"]}


def test_samples_without_a_number_and_lists_of_rewards(cases):
    for name, samples in (("21c_samples_unnumbered", 4), ("65c_reward_list", 3)):
        with open_pool(cases / name) as pool:
            reward = pool.reward_name(None)
            cells = pool.cells_of_part(reward)
            assert set(cells.counts.tolist()) == {samples}
            table = select(pool, Options(budget=3, clusters=0)).table
        assert table["within"].null_count == 0
        assert {"sample", "within"} <= set(table.column_names)


def test_openr1(cases, tmp_path, run):
    ran = run(
        "select",
        cases / "24_openr1",
        "--model",
        "R1",
        "--method",
        "random",
        "--budget",
        3,
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 0, ran.err
    with open_pool(cases / "24_openr1", model="R1") as pool:
        assert len(pool.ids) == 8
        assert set(pool.cells_of_part(pool.reward_name(None)).counts.tolist()) == {2}
    asked = ("--budget", 3, "--format", "rl", "--keep", "pass_rate=0.1..0.9")
    ran = run(
        "select", cases / "24_openr1", "--model", "R1", "--method", "random", *asked, "-o", tmp_path / "rl"
    )
    assert ran.code == 0, ran.err
    written = [json.loads(line) for line in (tmp_path / "rl" / "train.jsonl").read_text().splitlines()]
    assert {record["pass_rate"] for record in written} == {0.5}
    assert all(record["reference"] for record in written)


def with_level(path, *, files=1):
    """A pool with a number of its own per instruction, missing for every fifth."""
    rows = write(path if files == 1 else path.with_suffix(".tmp"))
    table = pa.Table.from_pylist(
        [{**row, "level": None if int(row["id"][1:]) % 5 == 0 else int(row["id"][1:]) % 7} for row in rows]
    )
    if files == 1:
        pq.write_table(table, path)
        return
    path.mkdir()
    home = np.array([int(id_[1:]) % files for id_ in table["id"].to_pylist()])
    for number in range(files):
        pq.write_table(table.filter(pa.array(home == number)), path / f"{number}.parquet")


def test_a_column_of_the_pool_has_a_band_and_bins(tmp_path):
    with_level(tmp_path / "pool.parquet")
    with_level(tmp_path / "files", files=3)
    for options in ({"keep": ("level=2..4",)}, {"keep": ("level=50%..",)}, {"cluster_by": "level:3"}):
        whole = chosen(tmp_path / "pool.parquet", budget=6, **options)
        with open_pool(tmp_path / "files") as pool:
            given = {"budget": 6, "clusters": 0, "weights": {"difficulty": 1.0}, "cache": False, **options}
            assert select(pool, Options(**given), run=run_here).table.equals(whole.table)
    found = chosen(tmp_path / "pool.parquet", budget=6, keep=("level=2..4",))
    for row in found.table.to_pylist():
        place = int(row["id"][1:])
        wanted = (
            "no_number:level"
            if place % 5 == 0
            else "outside:level"
            if not 2 <= place % 7 <= 4
            else row["reason"]
        )
        assert row["reason"] == wanted
        assert row["level"] == (None if place % 5 == 0 else place % 7)
    assert any("its level is 0" in line for line in found.explain("q007")["story"])
    with open_pool(tmp_path / "pool.parquet") as pool:
        tried = robustness(
            pool,
            Options(budget=6, clusters=0, weights={"difficulty": 1.0}, cache=False, keep=("level=2..4",)),
            bootstraps=2,
            seeds=1,
        )
    inside = {
        row["id"] for row in found.table.to_pylist() if row["level"] is not None and 2 <= row["level"] <= 4
    }
    assert set(tried.chosen) <= inside


def test_a_column_of_the_pool_that_is_no_number_or_has_a_name_of_ours_is_refused(tmp_path):
    rows = [{**row, "cluster": 1} for row in write(tmp_path / "pool.parquet")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    with pytest.raises(InputError, match=r"topic:3 of id 'q000' is 'odd|topic:3 of id 'q000' is 'even"):
        chosen(tmp_path / "pool.parquet", keep=("topic:3=1..",))
    with pytest.raises(
        OptionError, match=r"`keep`: 'cluster' is a column of the pool, but selection.parquet has one"
    ):
        chosen(tmp_path / "pool.parquet", keep=("cluster=1..",))
    with pytest.raises(OptionError, match=r"`keep`: no number 'score'; the numbers are: .*reward:MODEL"):
        chosen(tmp_path / "pool.parquet", keep=("score=1..",), reward="score")
