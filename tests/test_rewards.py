"""Ensembles of rewards, how far rewards agree, and numbers per instruction from elsewhere."""

import json
import re
import statistics
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr, zscore

from crowdselect import Options, open_pool, select
from crowdselect.errors import InputError, OptionError, RewardError, ShapeError
from crowdselect.numeric.ensembles import centred_row_ranks, combine_rewards, reward_agreement
from crowdselect.pool.sidecars import read_numbers
from crowdselect.selection.inspection import length_bias
from crowdselect.selection.rewards import ends_among, ends_of, marker_lines
from crowdselect.simulate.pool import simulate

IDS = np.array(["a", "b", "c"], dtype=object)


def matrices(rng, n=40, m=6, rewards=3, gaps=0.1):
    made = {f"r{k}": np.round(rng.normal(size=(n, m)) * 3) for k in range(rewards)}
    for matrix in made.values():
        matrix[rng.random((n, m)) < gaps] = np.nan
    return made


def test_ensembles_against_scipy():
    rng = np.random.default_rng(0)
    made = matrices(rng)
    shared = ~np.any([np.isnan(matrix) for matrix in made.values()], axis=0)
    ranks = [(rankdata(matrix[shared]) - 1) / (shared.sum() - 1) for matrix in made.values()]
    found = combine_rewards(made, how="mean-rank")
    assert np.isnan(found[~shared]).all()
    np.testing.assert_allclose(found[shared], np.mean(ranks, axis=0))
    found = combine_rewards(made, how="mean-z")
    np.testing.assert_allclose(found[shared], np.mean([zscore(m[shared]) for m in made.values()], axis=0))


@pytest.mark.parametrize("rewards", [3, 4, 7])
def test_careful_ensembles_against_brute_force(rewards):
    rng = np.random.default_rng(rewards)
    made = matrices(rng, n=15, rewards=rewards)
    lowest, bound = combine_rewards(made, how="min"), combine_rewards(made, how="lcb")
    shared = ~np.any([np.isnan(matrix) for matrix in made.values()], axis=0)
    ranks = {name: (rankdata(matrix[shared]) - 1) / (shared.sum() - 1) for name, matrix in made.items()}
    assert np.isnan(lowest[~shared]).all()
    assert np.isnan(bound[~shared]).all()
    for at, (one, other) in enumerate(zip(lowest[shared], bound[shared], strict=True)):
        own = [ranks[name][at] for name in made]
        assert one == pytest.approx(min(own), abs=1e-15)
        assert other == pytest.approx(statistics.mean(own) - statistics.stdev(own) / rewards**0.5, abs=1e-9)


def test_rewards_that_agree_lose_nothing_by_care():
    matrix = np.arange(12.0).reshape(3, 4)
    same = {name: matrix * factor for name, factor in (("a", 1.0), ("b", 10.0), ("c", 0.1))}
    plain = combine_rewards(same, how="mean-rank")
    for how in ("min", "lcb"):
        np.testing.assert_allclose(combine_rewards(same, how=how), plain, atol=1e-12)
    torn = same | {"c": -matrix}
    assert (combine_rewards(torn, how="lcb") <= combine_rewards(torn, how="mean-rank")).all()
    assert (combine_rewards(torn, how="lcb") >= 0).all()


def test_a_lower_bound_needs_three_rewards():
    with pytest.raises(OptionError, match="`ensemble='lcb'` needs at least 3 rewards, got 2"):
        combine_rewards({"a": np.eye(2), "b": np.eye(2)}, how="lcb")
    with pytest.raises(OptionError, match="needs at least 3 rewards"):
        Options(budget=1, reward=("a", "b"), ensemble="lcb")


def test_agreement_against_scipy():
    rng = np.random.default_rng(1)
    made = matrices(rng, rewards=2, gaps=0.05)
    a, b = made.values()
    shared = ~(np.isnan(a) | np.isnan(b))
    found = reward_agreement(made)
    assert found.overall["r0", "r1"] == pytest.approx(spearmanr(a[shared], b[shared]).statistic)
    for row in range(len(a)):
        x, y = a[row, shared[row]], b[row, shared[row]]
        if len(set(x)) > 1 and len(set(y)) > 1:
            assert found.rows[row] == pytest.approx(spearmanr(x, y).statistic)
        else:
            assert np.isnan(found.rows[row])
    assert found.within["r0", "r1"] == pytest.approx(np.nanmean(found.rows))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["mean-rank", "mean-z", "min", "lcb"]))
def test_order_of_rows_models_and_rewards_changes_nothing(seed, how):
    rng = np.random.default_rng(seed)
    made = matrices(rng, n=7, m=4)
    rows, columns = rng.permutation(7), rng.permutation(4)
    turned = {name: made[name][rows][:, columns] for name in reversed(made)}
    one, other = combine_rewards(made, how=how)[rows][:, columns], combine_rewards(turned, how=how)
    if how != "mean-z":
        np.testing.assert_array_equal(one, other)  # to the last bit: whole half steps are added
    else:
        np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_allclose(reward_agreement(made).rows[rows], reward_agreement(turned).rows, atol=1e-12)


def test_monotone_rescaling_changes_no_rank():
    rng = np.random.default_rng(2)
    made = matrices(rng)
    bent = {name: np.exp(matrix) for name, matrix in made.items()}
    np.testing.assert_array_equal(
        combine_rewards(made, how="mean-rank"), combine_rewards(bent, how="mean-rank")
    )


def test_edges():
    same = {"a": np.ones((2, 2)), "b": np.eye(2)}
    assert combine_rewards(same, how="mean-rank").tolist() == [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]
    with pytest.raises(OptionError, match="the reward 'a' is the same everywhere"):
        combine_rewards(same, how="mean-z")
    with pytest.raises(
        OptionError, match="`ensemble='median'` is unknown; choose one of: mean-rank, mean-z, min, lcb"
    ):
        combine_rewards(same, how="median")
    with pytest.raises(ShapeError):
        combine_rewards({"a": np.ones((2, 2)), "b": np.ones((2, 3))}, how="mean-rank")
    with pytest.raises(ShapeError):
        combine_rewards({}, how="mean-rank")
    assert np.isnan(reward_agreement(same).rows).all()
    assert centred_row_ranks(np.zeros((0, 3))).shape == (0, 3)
    assert np.isnan(
        combine_rewards({"a": np.full((1, 2), np.nan), "b": np.eye(2)[:1]}, how="mean-rank")
    ).all()


# In a selection


@pytest.fixture
def pool(tmp_path):
    rng = np.random.default_rng(3)
    models = ["Qwen2.5-1.5B", "Qwen2.5-7B", "Llama-3.1-8B", "Llama-3.1-70B"]
    rows = [(f"i{n:02}", model) for n in range(30) for model in models]
    truth = rng.normal(size=len(rows))
    table = {
        "id": [row[0] for row in rows],
        "instruction": [f"Question {row[0]}" for row in rows],
        "model": [row[1] for row in rows],
        "response": ["An answer."] * len(rows),
        "one": truth + rng.normal(size=len(rows)) / 2,
        "two": 10 * truth + 5 * rng.normal(size=len(rows)),
    }
    pq.write_table(pa.table(table), tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def test_select_from_an_ensemble(pool):
    options = Options(budget=5, clusters=0, reward=("one", "two"), ensemble="mean-rank")
    with open_pool(pool) as opened:
        chosen = select(opened, options)
        expected = combine_rewards({name: opened.scores(name) for name in ("one", "two")}, how="mean-rank")
    assert chosen.facts["reward"] == "mean-rank of one, two"
    np.testing.assert_allclose(chosen.table["separability"].to_numpy(), expected.var(axis=1))
    (pair,) = chosen.facts["agreement"]["pairs"]
    assert pair["rewards"] == ["one", "two"]
    assert 0.5 < pair["overall"] < 1
    assert len(chosen.facts["agreement"]["least"]) == 10
    rows = dict(
        zip(chosen.table["id"].to_pylist(), chosen.table["reward_agreement"].to_pylist(), strict=True)
    )
    least = chosen.facts["agreement"]["least"][0]
    assert rows[least["id"]] == least["agreement"] == min(rows.values())
    json.dumps(dict(chosen.facts))


def test_agreement_is_a_number_for_bands_and_weights(pool):
    options = Options(budget=5, clusters=0, reward=("one", "two"), ensemble="min")
    with open_pool(pool) as opened:
        plain = select(opened, options)
        kept = select(opened, replace(options, keep=("reward_agreement=0.9..",)))
        weighed = select(opened, replace(options, weights={"reward_agreement": 1.0}))
        agreement = plain.table["reward_agreement"].to_numpy()
        for row, value in zip(kept.table.to_pylist(), agreement, strict=True):
            assert row["reward_agreement"] == value
            assert (row["reason"] == "outside:reward_agreement") == (value < 0.9)
        taken = np.array(weighed.table["selected"].to_pylist())
        assert agreement[taken].min() >= agreement[~taken].max()
        with pytest.raises(OptionError, match="`keep`: reward_agreement is of several rewards"):
            select(opened, replace(options, reward="one", ensemble=None, keep=("reward_agreement=0..",)))


@pytest.mark.parametrize("how", ["min", "lcb"])
def test_select_from_a_careful_ensemble(how, pool):
    table = pq.read_table(pool)
    third = pa.array(np.arange(len(table)) % 7, pa.float64())
    pq.write_table(table.append_column("three", third), pool)
    rewards = ("one", "two", "three")
    with open_pool(pool) as opened:
        chosen = select(opened, Options(budget=5, clusters=0, reward=rewards, ensemble=how))
        expected = combine_rewards({name: opened.scores(name) for name in rewards}, how=how)
    assert chosen.facts["reward"] == f"{how} of one, two, three"
    np.testing.assert_allclose(chosen.table["separability"].to_numpy(), expected.var(axis=1))


def test_one_reward_in_a_tuple_is_one_reward(pool):
    assert Options(budget=1, reward=("one",)).reward == "one"
    assert Options(budget=1, reward=()).reward is None
    with open_pool(pool) as opened:
        assert select(opened, Options(budget=2, clusters=0, reward=("one",))).facts["agreement"] is None
        with pytest.raises(RewardError, match="no reward column 'three'"):
            select(opened, Options(budget=2, reward=("one", "three"), ensemble="mean-z"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"reward": ("a", "b")},
            "several rewards \\(a, b\\) but no `ensemble` to combine them; add `ensemble='mean-rank'`",
        ),
        ({"reward": ("a", "a"), "ensemble": "mean-z"}, "names a column twice"),
        ({"reward": "a", "ensemble": "mean-z"}, "`ensemble='mean-z'` needs two rewards or more"),
        ({"reward": ("a", "b"), "ensemble": "max"}, "`ensemble='max'` is unknown"),
    ],
)
def test_options_that_make_no_sense(given, said):
    with pytest.raises(OptionError, match=said):
        Options(budget=1, **given)


def test_ensembles_and_metrics_from_the_command(pool, run, tmp_path):
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("id,ifd,tags\n" + "".join(f"i{n:02},{n / 10},{n % 3}\n" for n in range(29)))
    args = ("select", str(pool), "--budget", "3", "--clusters", "0", "--dry-run", "--json")
    both = ("--reward", "one", "--reward", "two", "--ensemble", "mean-z")
    ran = run(*args, *both, "--metrics", str(numbers), "--weights", "ifd=1")
    found = json.loads(ran.out)
    assert [row["id"] for row in found["chosen"]] == ["i28", "i27", "i26"]
    assert found["chosen"][0]["ifd"] == 2.8
    assert found["chosen"][0]["ifd_rank"] == 1.0
    assert found["counts"]["no_number"] == 1
    ran = run(*args[:-1], *both, "--metrics", str(numbers), "--weights", "ifd=1")
    assert "How far the rewards agree" in ran.out
    assert "they agree least on: i" in ran.out
    ran = run(*args, *both, "--metrics", str(numbers), "--weights", "lfd=1")
    ran.refuses("--weights: no number 'lfd'", "stability, within, ifd, tags")


# Numbers per instruction


def test_numbers_in_the_order_of_the_pool(tmp_path):
    (tmp_path / "n.jsonl").write_text('{"id": "c", "x": 3}\n{"id": "a", "x": 1.5}\n{"id": "z", "x": 9}\n')
    found, note = read_numbers(str(tmp_path / "n.jsonl"), ids=IDS, taken=[])
    np.testing.assert_array_equal(found["x"], [1.5, np.nan, 3])
    assert note == f"`metrics` {tmp_path}/n.jsonl: 1 of 3 ids are not in the pool"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,x\na,1\na,2\n", "id 'a' stands twice"),
        ("id,x\na,1\n,2\n", "row 2: the id is missing"),
        ("id,x\na,inf\nb,1\n", "x is inf at id 'a'"),
        ("id,x\na,low\n", "no numbers per instruction; found the columns id, x"),
        ("name,x\na,1\n", "wanted id and numeric columns"),
        ("id,score\na,1\n", "the column 'score' has the name of one of our own"),
    ],
)
def test_files_that_hold_no_numbers(text, said, tmp_path):
    (tmp_path / "n.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_numbers(str(tmp_path / "n.csv"), ids=IDS, taken=["score"])
    assert said in str(caught.value)
    assert str(tmp_path / "n.csv") in str(caught.value)


# Length bias


@pytest.mark.parametrize("layout", ["long", "zoo"])
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_lengths_are_those_of_the_texts(layout, ending, tmp_path):
    file = tmp_path / f"p.{ending}"
    simulate(file, instructions=25, layout=layout, samples=2 if layout == "long" else 1)
    with open_pool(file) as opened:
        found = opened.response_lengths()
        lengths = {}
        for batch in opened.stream_responses(7):
            for row, model, text in zip(batch.rows, batch.models, batch.texts, strict=True):
                lengths.setdefault((int(row), int(model)), []).extend([] if text is None else [len(text)])
        for (row, model), known in lengths.items():
            assert (
                found[row, model] == pytest.approx(np.mean(known)) if known else np.isnan(found[row, model])
            )


def test_length_bias_against_scipy(tmp_path, run):
    rng = np.random.default_rng(4)
    lengths, reward = rng.integers(1, 50, size=(30, 5)).astype(float), rng.normal(size=(30, 5))
    lengths[rng.random((30, 5)) < 0.1] = np.nan
    there = ~np.isnan(lengths)
    found = length_bias(lengths, {"r": reward})["r"]
    assert found["overall"] == pytest.approx(spearmanr(lengths[there], reward[there]).statistic)
    rows = [spearmanr(a[t], b[t]).statistic for a, b, t in zip(lengths, reward, there, strict=True)]
    assert found["within"] == pytest.approx(np.mean(rows))
    assert length_bias(np.full((2, 2), np.nan), {"r": np.eye(2)}) == {"r": {"overall": None, "within": None}}
    texts = [["a" * 2, "a" * 9], ["b" * 40, "b" * 3]]
    table = {
        "id": list("aabb"),
        "model": list("mnmn"),
        "response": [t for row in texts for t in row],
        "s": [1, 2, 4, 3],
    }
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    ran = run("inspect", str(tmp_path / "p.parquet"), "--json")
    assert json.loads(ran.out)["length_bias"]["s"] == {"overall": pytest.approx(0.8), "within": 1.0}
    assert "Rank correlation of reward and answer length" in run("inspect", str(tmp_path / "p.parquet")).out


@pytest.mark.real
def test_three_real_judges_agree_as_the_docs_say(data):
    judges = ("score_llama33", "score_athenev2", "score_tulu405")
    with open_pool(data / "shaberi.parquet") as opened:
        chosen = select(
            opened,
            Options(budget=32, clusters=0, reward=judges, ensemble="mean-rank", weights={"difficulty": 1}),
        )
    pairs = chosen.facts["agreement"]["pairs"]
    assert [round(pair["overall"], 2) for pair in pairs] == [0.81, 0.75, 0.79]
    assert [round(pair["within"], 2) for pair in pairs] == [0.71, 0.66, 0.68]
    assert [row["id"] for row in chosen.facts["agreement"]["least"][:3]] == [
        "jamt-001",
        "elyza-012",
        "elyza-071",
    ]


# Values that may mean no reward

HIGHEST = {1: 99.0, 5: 99.0, 10: 99.0, 100: 999.0, 1000: 9999.0}
"""The end of a scale → a marker that is told apart from it."""
VALUES = st.lists(st.integers(-3, 12).map(float) | st.sampled_from([-999.0, 99.0, np.nan]), max_size=60)


@settings(deadline=None)
@given(VALUES, st.lists(st.integers(0, 60), max_size=4))
def test_the_ends_of_parts_are_those_of_the_whole(values, cuts):
    whole = np.array(values)
    counts = sorted({value: values.count(value) for value in values if not np.isnan(value)}.items())
    assert list(ends_of(whole)) == (counts if len(counts) <= 8 else counts[:4] + counts[-4:])
    assert ends_among(map(ends_of, np.split(whole, sorted(cuts)))) == ends_of(whole)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(HIGHEST)), st.booleans(), st.integers(2, 9))
def test_markers_are_told_apart_from_scales(seed, end, whole, count):
    rng = np.random.default_rng(seed)
    values = np.array([0.0, end, *rng.uniform(0, end, 50)])
    values = values.round() if whole else values
    assert marker_lines("r", ends_of(values)) == []
    assert marker_lines("r", ends_of(np.append(values, HIGHEST[end]))) == []  # once: any number may be
    for marker in (HIGHEST[end], -HIGHEST[end]):
        [line] = marker_lines("r", ends_of(np.append(values, [marker] * count)))
        assert line.endswith(f"; if so, pass `missing={marker:g}`")
    both = marker_lines("r", ends_of(np.append(values, [-1.0, 9999.0] * count)))
    assert [line.rpartition("=")[2] for line in both] == ["-1`", "9999`"]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2000), st.floats(-1000, 1000))
def test_logits_are_asked_nothing(seed, spread, middle):
    rng = np.random.default_rng(seed)
    values = rng.normal(middle, spread, 200)
    assert marker_lines("r", ends_of(np.append(values, values[:9]))) == []


@pytest.mark.parametrize("name", ["shaberi", "wildbench", "zeroeval"])
def test_real_rewards_are_asked_nothing(data, name):
    with open_pool(data / f"{name}.parquet") as pool:
        for reward in pool.reward_columns:
            scores = pool.scores_of_part(pool.reward_name(reward))
            assert marker_lines(reward, ends_of(scores)) == []
            assert marker_lines(reward, ends_of(np.where(np.isnan(scores), 999.0, scores)))


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        (("latency_s", "n_tokens", "scores.overall", "scores.honest"), "--reward scores.overall"),
        (("time_ms", "helpful", "judge_quality"), "--reward judge_quality"),
        (("latency_s", "helpful"), ""),  # the only one that may be meant
        (("latency_s", "length_score"), ""),
        (("latency_s", "n_tokens"), None),
        (("response_time",), None),
    ],
)
def test_what_an_answer_took_is_never_proposed_as_its_reward(run, tmp_path, names, proposed):
    rows = []
    for i in range(6):
        for j, model in enumerate(("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct")):
            row = {"id": f"q{i}", "instruction": f"Q {i}?", "model": model, "response": f"A {i} {j}"}
            for at, name in enumerate(names):
                outer, _, inner = name.rpartition(".")
                held = row.setdefault(outer, {}) if outer else row
                held[inner] = (i * 3 + j * 5 + at) % 7 / 7
            rows.append(row)
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shown = run("inspect", path)
    last = shown.out.splitlines()[-1].strip()
    options = ["--budget", 2, "--clusters", 0, "-o", tmp_path / "chosen"]
    if proposed is None:
        assert last.startswith("crowdselect reward ")
        assert run("select", path, *options).code == 2
        return
    assert last.startswith(f"crowdselect select {path} --clusters 0 {proposed} --budget".replace("  ", " "))
    assert run("select", path, *proposed.split(), *options).code == 0
    named = run("inspect", path, "--reward", f"{names[0]}:down")
    assert f" --reward {names[0]}:down " in named.out.splitlines()[-1]


CROWD = ("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct")


def scored(path, numbers, *, instructions=12):
    """Write a pool with some numbers, each a function of the instruction's and the model's place."""
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}?", "model": model, "response": f"A {i} {j}"}
        | {name: number(i, j) for name, number in numbers.items()}
        for i in range(instructions)
        for j, model in enumerate(CROWD)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def varied(i, j):
    return (i * 3 + j * 5) % 7


def of_prompt(i, _):
    return i % 5


@pytest.mark.parametrize(
    ("numbers", "proposed"),
    [
        ({"best_idx": varied, "prompt_no": of_prompt, "rm_scores": varied}, ""),
        ({"rater": varied, "stars": varied, "funny": varied}, "--reward stars"),
        ({"depth": of_prompt, "helpful": varied}, ""),  # a fact about the prompt is no reward of an answer
        ({"helpful": varied, "honest": lambda i, j: i * j % 5}, "--reward NAME"),
        ({"reward/format": varied, "reward/total": varied}, "--reward reward/total"),
        ({"best_idx": varied, "depth": of_prompt, "total_annotations": varied}, None),
        ({"total_annotations": varied, "upvotes": of_prompt, "sentences": varied, "n_words": varied}, None),
    ],
)
def test_the_proposed_reward_is_one_by_its_name_or_the_only_number(run, tmp_path, numbers, proposed):
    path = scored(tmp_path / "pool.jsonl", numbers)
    shown = run("inspect", path)
    purpose, last = (line.strip() for line in shown.out.splitlines()[-2:])
    known = json.loads(run("inspect", path, "--json").out)
    options = ["--budget", 2, "--clusters", 0, "-o", tmp_path / "chosen"]
    if proposed is None:
        assert last.startswith("crowdselect reward ")
        assert (known["reward_columns"], known["rewards"]) == ([], {})
        run("select", path, *options).refuses("no column has the name of a reward", "total_annotations")
        named = "depth" if "depth" in numbers else "sentences"
        assert run("select", path, "--reward", named, *options).code == 0  # where it is named
        return
    assert last.startswith(f"crowdselect select {path} --clusters 0 {proposed} --budget".replace("  ", " "))
    assert set(known["rewards"]) == set(known["reward_columns"])
    assert not {"best_idx", "prompt_no", "rater", "depth"} & set(known["rewards"])
    if proposed.endswith("NAME"):
        assert purpose == "choose a tenth of it (NAME is the reward, one of: helpful, honest):"
        run("select", path, *options).refuses("several reward columns: helpful, honest")
    else:
        assert purpose == "choose a tenth of it:"
        assert run("select", path, *proposed.split(), *options).code == 0


@pytest.mark.parametrize("layout", ["ultrafeedback", "zoo"])
def test_a_number_that_all_answers_of_a_row_share_is_no_reward(layout, tmp_path):
    rows = []
    for i in range(12):
        answers = [
            {"content": f"A {i} {j}", "depth": of_prompt(i, j), "helpful": varied(i, j)} for j in range(2)
        ]
        listed = [
            {"model": m, "response": a.pop("content"), **a}
            for m, a in zip(CROWD, map(dict, answers), strict=True)
        ]
        own = dict(zip(CROWD, answers, strict=True)) if layout == "zoo" else {"completions": listed}
        rows.append({"id": f"q{i}", "instruction": f"Q {i}?", **own})
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open_pool(path) as pool:
        assert (pool.layout, pool.reward_columns) == (layout, ("depth", "helpful"))
        assert (pool.likely_rewards, pool.usual_reward) == (("helpful",), "helpful")


@pytest.mark.parametrize(("answered", "weights"), [(1, True), (7, False)])
def test_the_proposed_weights_leave_something_to_choose(run, tmp_path, answered, weights):
    """Stability is asked for where most instructions have one: rewards of two sizes of a family."""
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}?", "model": model, "response": "A", "score": varied(i, j)}
        for i in range(12)
        for j, model in enumerate((*CROWD, "oak", "elm"))
        if j != 1 or i < answered
    ]
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    last = run("inspect", path).out.splitlines()[-1]
    assert ("--weights difficulty=1,separability=1" in last) == weights
    assert json.loads(run("inspect", path, "--json").out)["rewards"]["score"]["with_stability"] == answered


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["model_a", "tie"],
            "row 1: winner is 'model_a', not a number; `columns` names it as the reward 'reward'",
        ),
        ([1, "tie"], "row 2: winner is 'tie', not a number"),
        (["", "NA"], "winner holds no number; `columns` names it as the reward"),
        ([{"by": "me"}, {"by": "you"}], "not a number"),
    ],
)
def test_a_reward_that_is_named_and_holds_no_numbers_is_refused(values, said, tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"winner": lambda i, j: values[(2 * i + j) % 2], "turns": varied})
    with pytest.raises(InputError, match=said):
        open_pool(path, columns={"reward": "winner"})


def nested(path, values):
    """A pool of answers in objects, with one more value of each instruction beside the prompt."""
    rows = [
        {
            "vars": {"question": f"What is {i} of many?", "topic": values[i % len(values)], "note": "n"},
            "by": {"model": f"oak-{size}b", "seed": 1},
            "said": f"A {i} of {size}",
            "score": varied(i, j),
        }
        for i in range(12)
        for j, size in enumerate((1, 7))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"instruction": "vars.question", "model": "by.model", "response": "said"}


def test_a_free_name_makes_a_column_of_texts(tmp_path):
    columns = nested(tmp_path / "pool.jsonl", ["travel", "maths", "7"])
    with open_pool(tmp_path / "pool.jsonl", columns={**columns, "field": "vars.topic"}) as pool:
        assert pool.reward_columns == ("score",)
        assert "vars.topic is read as field, a column of texts and no reward" in pool.notes
        asked = {"budget": 6, "weights": {"difficulty": 1.0}, "keep": "rewards=1.."}
        clustered = select(pool, Options(cluster_by="field", **asked))
        shared = select(pool, Options(quota="field=travel:1.0", clusters=0, **{**asked, "budget": 3}))
    assert clustered.facts["cluster_names"] == ["7", "maths", "travel"]
    assert sorted(clustered.facts["quotas"].values()) == [2, 2, 2]
    assert {row["stratum"] for row in shared.rows()} == {"travel"}


def test_a_free_name_of_numbers_is_a_reward_or_a_number_of_the_row(tmp_path):
    columns = nested(tmp_path / "pool.jsonl", ["1", 2, None])
    with open_pool(tmp_path / "pool.jsonl", columns={**columns, "level": "vars.topic"}) as pool:
        assert pool.reward_name("level") == "level"


@pytest.mark.parametrize(
    ("values", "name", "said"),
    [
        ([1, 2, 3, "tie"], "level", "row 7: vars.topic is 'tie', not a number"),
        (["good", "bad"], "quality_score", "row 1: vars.topic is 'good', not a number"),
        (["good", "bad"], "stars", "row 1: vars.topic is 'good', not a number"),
        (["8/10", "9/10", "none"], "level", "row 1: vars.topic is '8/10', not a number"),
        (["", None, "NA"], "level", "vars.topic holds no number"),
        ([["a"], ["b"]], "level", "row 1: vars.topic is"),
        (["a", ["b"]], "level", "row 1: vars.topic is 'a', not a number"),
    ],
)
def test_a_free_name_of_what_may_be_rewards_with_bad_cells_is_refused(values, name, said, tmp_path):
    columns = nested(tmp_path / "pool.jsonl", values)
    with pytest.raises(InputError, match=re.escape(said)):
        open_pool(tmp_path / "pool.jsonl", columns={**columns, name: "vars.topic"})


def test_what_lies_beside_named_values_is_said_to_be_left_out(run, tmp_path):
    path = tmp_path / "pool.jsonl"
    columns = ",".join(f"{what}={name}" for what, name in nested(path, ["travel", "maths"]).items())
    told = "left out, beside what --columns names inside objects:"
    said = run("inspect", path, "--columns", columns).err
    assert f"{told} vars.topic, vars.note, by.seed; --columns topic=vars.topic reads vars.topic" in said
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    odd = [{**row, "vars": {"question": row["vars"]["question"], "a,b": "x", "MODEL": "y"}} for row in rows]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in odd), encoding="utf-8")
    spelt = run(
        "inspect", tmp_path / "odd.jsonl", "--columns", columns.replace("vars.topic", "vars.MODEL")
    ).err
    assert (
        "vars.a,b" in spelt
    )  # a name that `--columns` cannot hold, and one of a column that is there, are not proposed
    assert "reads vars." not in spelt
    every = run("inspect", path, "--columns", f"{columns},topic=vars.topic,note=vars.note,seed=by.seed")
    assert told not in every.err
    assert "topic, note" in every.out


def rated(i, j):
    """What people said of an answer, as Argilla exports it; of some nothing, of some nothing that counts."""
    status = ["submitted", "submitted" if (i + j) % 3 else "discarded", "discarded"]
    said = [{"value": varied(i, j) + k, "user_id": f"u{k}", "status": s} for k, s in enumerate(status)]
    return {
        "rating": None if i == 2 else said[2:] if i == 3 else [] if i == 4 else said,
        "when": "2025-01-06",
    }


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_the_line_makes_a_number_of_a_list_of_ratings(kind, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    path = scored(tmp_path / "said.jsonl", {"responses": rated, "code": lambda i, j: f"0{i}"})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if kind == "json":
        path = tmp_path / "said.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "parquet":
        path = tmp_path / "said.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    wanted = (
        r"row 1: responses.rating is a list \(of objects with status, user_id, value\), wanted a number; pandas makes the "
        r"mean of value where status is 'submitted', to be read from pool.\w+ with reward=reward in `columns`: "
    )
    for name in ("responses.rating", "responses.rating.value"):
        with pytest.raises(InputError, match=wanted) as told:
            open_pool(path, columns={"reward": name})
    exec(str(told.value).partition(" in `columns`: ")[2], {"pd": pandas})
    made = "pool.parquet" if kind == "parquet" else "pool.jsonl"
    with open_pool(made, columns={"reward": "reward"}) as pool:
        read = {
            (id_, model): value
            for id_, row in zip(pool.ids, pool.scores(), strict=True)
            for model, value in zip(pool.models, row, strict=True)
        }
        assert set(pool.column("code")) == {f"0{i}" for i in range(12)}
    for row in rows:
        said = row["responses"]["rating"] or []
        values = [one["value"] for one in said if one["status"] == "submitted"]
        value = read[row["id"], row["model"]]
        assert value == pytest.approx(statistics.mean(values)) if values else np.isnan(value)


def test_a_list_with_no_clear_number_is_told_without_a_line(tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"said": lambda i, j: [{"clear": 1, "kind": 2}]})
    with pytest.raises(
        InputError, match=r"said is a list \(of objects with clear, kind\), wanted a number"
    ) as told:
        open_pool(path, columns={"reward": "said"})
    assert "pd." not in str(told.value)


def test_a_reward_inside_an_object_is_told_how_it_is_named(tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"judged": lambda i, j: {"level": varied(i, j)}, "score": varied})
    told = (
        "no reward column 'judged.level'.*; inside an object it is named with `columns='reward=judged.level'`"
    )
    with open_pool(path) as pool, pytest.raises(RewardError, match=told):
        pool.scores("judged.level")
    with open_pool(path, columns={"reward": "judged.level"}) as pool:
        assert pool.scores("reward").shape == (12, len(CROWD))


def test_rows_whose_named_reward_is_no_number_are_left_out_as_invalid(tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"won": lambda i, j: "tie" if i == 3 else varied(i, j)})
    with open_pool(path, columns={"liked": "won"}, skip_invalid=True) as pool:
        assert (pool.malformed, pool.usual_reward) == (2, "liked")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_id_of_a_second_file_may_have_a_rarer_name_that_is_there_alone(run, tmp_path, ending):
    answers = [
        {"id": i, "instruction": f"What is {i}?", "model": model, "response": f"{i}, says {model}"}
        for i in range(6)
        for model in ("m-7b", "m-70b")
    ]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    judged = [
        {"question_id": row["id"], "model": row["model"], "score": row["id"] + len(row["model"])}
        for row in answers
    ]

    def write(name, rows):
        path = tmp_path / f"{name}.{ending}"
        table = pa.Table.from_pylist(rows)
        (pa.csv.write_csv if ending == "csv" else pq.write_table)(table, path)
        return path

    second, doubtful = write("second", judged), write("doubtful", [row | {"uid": 1} for row in judged])
    with open_pool(tmp_path / "pool.jsonl", rewards=second) as pool:
        assert pool.reward_columns == ("score",)
        np.testing.assert_array_equal(pool.scores(), [[i + 5, i + 4] for i in range(6)])
        assert f"rewards: question_id of {second} is taken for the id" in pool.notes
    renamed = [{"custom_id" if k == "question_id" else k: v for k, v in row.items()} for row in judged]
    with open_pool(tmp_path / "pool.jsonl", rewards=write("batch", renamed)) as pool:
        np.testing.assert_array_equal(pool.scores(), [[i + 5, i + 4] for i in range(6)])
    usual = write("usual", [row | {"id": row["question_id"], "question_id": 9} for row in judged])
    with open_pool(tmp_path / "pool.jsonl", rewards=usual) as pool:
        np.testing.assert_array_equal(pool.scores(), [[i + 5, i + 4] for i in range(6)])
        assert not any("is taken for the id" in note for note in pool.notes)
    run("inspect", tmp_path / "pool.jsonl", "--rewards", doubtful).refuses("not a rewards file")


def test_the_only_number_that_may_be_the_reward_is_told(run, tmp_path):
    options = ["--budget", 2, "--clusters", 0, "-o"]
    told = "the reward is helpful; of the others (depth, n_tokens) none is a number that may be one"
    several = scored(tmp_path / "several.jsonl", {"depth": of_prompt, "helpful": varied, "n_tokens": varied})
    ran = run("select", several, *options, tmp_path / "a")
    assert told in " ".join(ran.err.split())
    assert "if it is another, name it with --reward" in " ".join(ran.err.split())
    assert told not in " ".join(
        run("select", several, "--reward", "helpful", *options, tmp_path / "b").err.split()
    )
    for name, numbers in {"c": {"helpful": varied}, "d": {"depth": of_prompt, "stars": varied}}.items():
        path = scored(tmp_path / f"{name}.jsonl", numbers)
        assert "the reward is" not in run("select", path, *options, tmp_path / name).err


def test_a_reward_that_is_the_same_for_all_answers_is_told_so(run, tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"quality": of_prompt, "depth": of_prompt})
    run("select", path, "--budget", 2, "--clusters", 0, "-o", tmp_path / "out").refuses(
        "quality is the same for all answers to an instruction, and no other column has the name of a reward: quality, depth; "
        "name the one to use with --reward"
    )


@pytest.mark.parametrize(
    ("value", "is_score"), [("2024/05", False), ("05/2024", False), ("7/10", True), ("450/1000", True)]
)
def test_dates_are_no_scores_in_words(value, is_score, run, tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"when": lambda i, j: value})
    ran = run("select", path, "--budget", 2, "--clusters", 0, "-o", tmp_path / "out")
    ran.refuses("when may be it, as text" if is_score else "no numeric column for one")
    assert ("may be it, as text" in run("inspect", path).err) == is_score


def test_the_only_number_of_a_second_file_is_a_reward_whatever_its_name(tmp_path):
    path = scored(tmp_path / "pool.jsonl", {"n_tokens": varied})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for more, usual in (({}, "words"), ({"sentences": 3}, None)):
        judged = [
            {"id": row["id"], "model": row["model"], "words": len(row["response"]), **more} for row in rows
        ]
        pq.write_table(pa.Table.from_pylist(judged), tmp_path / "second.parquet")
        with open_pool(path, rewards=tmp_path / "second.parquet") as pool:
            assert pool.usual_reward == usual


@pytest.mark.parametrize(
    "name", ["completions.nonsense.foo", "completions.overall", "completions.judged.level"]
)
def test_a_named_reward_inside_the_answers_is_refused(name, tmp_path, run):
    rows = [
        {
            "instruction": f"What is {i}?",
            "completions": [
                {"model": model, "response": f"{i}", "overall": varied(i, j), "judged": {"level": "4"}}
                for j, model in enumerate(CROWD)
            ],
        }
        for i in range(12)
    ]
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    run("inspect", path, "--columns", f"reward={name}").refuses(
        f"{name} leads into completions, which holds the answers"
    )
    run("inspect", path, "--reward", name).refuses(f"no reward column '{name}'; found overall\n")
    with open_pool(path) as pool:
        assert pool.usual_reward == "overall"
