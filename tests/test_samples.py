"""Of several samples of a model, the best-rewarded is taught and the worst rejected; each shows its own reward."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import chisquare

from crowdselect import Options, export, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.compare.selections import compare
from crowdselect.engine.here import run_here
from crowdselect.methods.column import by_column
from crowdselect.methods.length import by_length
from crowdselect.methods.random_choice import random_choice
from crowdselect.selection import reading as sharded

MODELS = ("qwen2.5-1.5b", "qwen2.5-7b", "llama-3-8b")


def write(path, *, n=40, samples=4, seed=0, change=None):
    """A pool whose samples differ in reward, some without text or without a reward; and its rows by key."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for model in MODELS:
            for sample in rng.permutation(samples).tolist():
                row = {
                    "id": f"q{i:03d}",
                    "instruction": f"Question number {i}?",
                    "model": model,
                    "sample": sample,
                    "response": " "
                    if rng.random() < 0.15
                    else f"{model} {sample} {'x' * int(rng.integers(30))}",
                    "score": None if rng.random() < 0.1 else float(rng.integers(0, 4)),
                    "other": float(rng.integers(0, 50)),
                }
                rows.append(row if change is None else change(row))
    order = rng.permutation(len(rows))
    pq.write_table(pa.Table.from_pylist([rows[at] for at in order]), path)
    return {(row["id"], row["model"], row["sample"]): row for row in rows}


def cut(file, folder, count):
    table = pq.read_table(file)
    home = np.array([int(id_[1:]) % count for id_ in table["id"].to_pylist()])
    folder.mkdir()
    for number in range(count):
        pq.write_table(table.take(np.flatnonzero(home == number)), folder / f"{number}.parquet")
    return folder


def best_of(rows, id_, model, *, lowest=False, by="score"):
    """The samples that may be taken: those with text, of them those with a reward, of these the best."""
    own = [row for key, row in rows.items() if key[:2] == (id_, model) and row["response"].strip()]
    rewarded = [row for row in own if row[by] is not None]
    best = (min if lowest else max)((row[by] for row in rewarded), default=None)
    return {row["sample"] for row in (rewarded or own) if row[by] == best}


def records(folder):
    return {row["id"]: row for row in map(json.loads, (folder / "train.jsonl").read_text().splitlines())}


def check(rows, table, kind="", **by):
    """The sample of every row is one that may be taken, and the reward is its own."""
    for row in table:
        if row[f"{kind}model"] is None:
            assert row[f"{kind}sample"] is None
            continue
        key = row["id"], row[f"{kind}model"], row[f"{kind}sample"]
        assert key[2] in best_of(rows, *key[:2], lowest=kind != "", **by)
        assert row[f"{kind}reward"] == rows[key][by.get("by", "score")]


def weights(**more):
    return {"clusters": 0, "weights": {"difficulty": 1.0}, "reward": "score", **more}


def may_take(rows, id_, answer):
    """The answers that a strategy may take, by brute force: (model, sample) each."""
    said = {key[1:]: row for key, row in rows.items() if key[0] == id_ and row["response"].strip()}
    rewarded = {key: row["score"] for key, row in said.items() if row["score"] is not None}
    if answer == "random":
        return set(said)
    if answer.startswith("model:"):
        own = {key: row["score"] for key, row in said.items() if key[0] == answer[6:]}
        known = {key: score for key, score in own.items() if score is not None}
        return {key for key in known or own if not known or known[key] == max(known.values())}
    top = 1 if answer == "best" else int(answer[3])
    bar = sorted(rewarded.values(), reverse=True)[:top]
    return {key for key, score in rewarded.items() if bar and score >= bar[-1]}


@pytest.mark.parametrize("answer", ["best", "random", "top2-random", "top5-random", "model:qwen2.5-7b"])
def test_answers_are_taken_among_all_samples(answer, tmp_path):
    rows = write(tmp_path / "pool.parquet", n=120)
    with open_pool(tmp_path / "pool.parquet") as pool:
        chosen = select(pool, Options(budget=12, answer=answer, **weights()))
        export(chosen, pool, tmp_path / "out")
    for row in chosen.table.to_pylist():
        if row["model"] is not None:
            assert (row["model"], row["sample"]) in may_take(rows, row["id"], answer)
            assert row["reward"] == rows[row["id"], row["model"], row["sample"]]["score"]
    written = records(tmp_path / "out")
    for row in chosen.rows():
        taken = rows[row["id"], row["model"], row["sample"]]
        assert written[row["id"]]["messages"][-1]["content"] == taken["response"]
    assert any(row["sample"] for row in chosen.rows())


def test_the_worst_sample_is_rejected_and_below_the_chosen_one(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as pool:
        chosen = select(pool, Options(budget=12, pairs="best-worst", **weights()))
        export(chosen, pool, tmp_path / "out")
    for row in chosen.table.to_pylist():
        if row["model"] is None:
            continue
        said = {key: each for key, each in rows.items() if key[0] == row["id"] and each["response"].strip()}
        scores = [each["score"] for each in said.values() if each["score"] is not None]
        assert (row["reward"], row["rejected_reward"]) == (max(scores), min(scores))
        for kind in ("", "rejected_"):
            assert said[row["id"], row[f"{kind}model"], row[f"{kind}sample"]]["score"] == row[f"{kind}reward"]
    written = records(tmp_path / "out")
    for row in chosen.rows():
        assert row["rejected_reward"] < row["reward"]
        for kind, name in (("", "chosen"), ("rejected_", "rejected")):
            taken = rows[row["id"], row[f"{kind}model"], row[f"{kind}sample"]]
            assert written[row["id"]][name][0]["content"] == taken["response"]


def test_only_samples_with_text_make_a_pair(tmp_path):
    def change(row):
        better, said = row["model"] == MODELS[0], row["sample"] == 0
        return {
            **row,
            "response": "said" if said else "",
            "score": [2.0, 1.0][better] if said else 9.0 * better,
        }

    write(tmp_path / "pool.parquet", change=change)
    with open_pool(tmp_path / "pool.parquet") as pool:
        found = select(pool, Options(budget=1, **weights(keep="rewards=1.."))).table.to_pylist()
        assert {row["reward"] for row in found} == {2.0}
        assert MODELS[0] not in {row["model"] for row in found}
        with pytest.raises(ValueError, match="0 instructions are eligible"):  # all say the same
            select(pool, Options(budget=1, pairs="best-worst", **weights()))


def test_equal_samples_are_taken_as_often_whatever_the_order(tmp_path):
    same = lambda row: {**row, "response": f"{row['model']} {row['sample']}", "score": 1.0}  # noqa: E731
    write(tmp_path / "pool.parquet", n=900, samples=3, change=same)
    table = pq.read_table(tmp_path / "pool.parquet")
    pq.write_table(table.take(np.arange(len(table))[::-1]), tmp_path / "turned.parquet")
    taken = []
    for name in ("pool.parquet", "turned.parquet"):
        with open_pool(tmp_path / name) as pool:
            taken.append(select(pool, Options(budget=9, **weights())).table["sample"].to_pylist())
    assert taken[0] == taken[1]
    counts = Counter(taken[0])
    assert chisquare([counts[number] for number in range(3)]).pvalue > 1e-4


@pytest.mark.parametrize("told_apart", [True, False])
def test_rewards_from_a_second_file(told_apart, tmp_path):
    rows = write(tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    pq.write_table(table.drop_columns(["score", "other"]), tmp_path / "plain.parquet")
    kept = table.select(["id", "model", "sample", "score"])
    if not told_apart:
        kept = kept.filter(pa.compute.equal(kept["sample"], 0)).drop_columns(["sample"])
    pq.write_table(kept, tmp_path / "rewards.parquet")
    with open_pool(tmp_path / "plain.parquet", rewards=tmp_path / "rewards.parquet") as pool:
        found = select(pool, Options(budget=9, **weights())).table.to_pylist()
    if told_apart:
        check(rows, found)
        return
    shared = {key: {**row, "score": rows[(*key[:2], 0)]["score"]} for key, row in rows.items()}
    check(shared, found)


def test_an_ensemble_takes_the_sample_by_its_own_rewards(tmp_path):
    rows = write(tmp_path / "pool.parquet", change=lambda row: {**row, "score": row["other"] // 9})
    options = Options(budget=9, clusters=0, reward=("score", "other"), ensemble="mean-rank")
    with open_pool(tmp_path / "pool.parquet") as pool:
        for row in select(pool, options).table.to_pylist():
            assert row["sample"] in best_of(rows, row["id"], row["model"], by="other")


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("pairs", [None, "best-worst"])
def test_file_by_file_takes_the_same(pairs, count, tmp_path, monkeypatch):
    write(tmp_path / "pool.parquet")
    folder, options = (
        cut(tmp_path / "pool.parquet", tmp_path / "in", count),
        Options(budget=9, pairs=pairs, **weights()),
    )
    with open_pool(tmp_path / "pool.parquet") as pool, open_pool(folder) as parts:
        export(select(pool, options), pool, tmp_path / "whole")
        export(select(parts, options, run=run_here), parts, tmp_path / "by-file", run=run_here)
        chosen = select(parts, options)
        monkeypatch.setattr(sharded, "LARGE", 10)
        export(chosen, parts, tmp_path / "later")
    for file in ("train.jsonl", "selection.parquet"):
        one, *others = ((tmp_path / name / file).read_bytes() for name in ("whole", "by-file", "later"))
        assert others == [one, one]


def test_files_that_lack_models_take_the_same(tmp_path):
    write(tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    gone = [
        id_ < "q020" and model == MODELS[1]
        for id_, model in zip(*(table[c].to_pylist() for c in ("id", "model")), strict=True)
    ]
    pq.write_table(table.filter(pa.compute.invert(pa.array(gone))), tmp_path / "pool.parquet")
    (tmp_path / "in").mkdir()
    left = pq.read_table(tmp_path / "pool.parquet")
    for number, part in enumerate(
        (pa.compute.less(left["id"], "q020"), pa.compute.greater_equal(left["id"], "q020"))
    ):
        pq.write_table(left.filter(part), tmp_path / "in" / f"{number}.parquet")
    options = Options(budget=9, **weights())
    with open_pool(tmp_path / "pool.parquet") as pool, open_pool(tmp_path / "in") as parts:
        assert select(parts, options, run=run_here).table.equals(select(pool, options).table)


def test_one_model_and_no_reward(tmp_path):
    number = lambda row: 4 * MODELS.index(row["model"]) + row["sample"]  # noqa: E731
    rows = write(
        tmp_path / "one.parquet", change=lambda row: {**row, "model": "m", "sample": number(row)}
    ).values()
    table = pq.read_table(tmp_path / "one.parquet").drop_columns(["other"])
    pq.write_table(table, tmp_path / "one.parquet")
    pq.write_table(table.drop_columns(["score"]), tmp_path / "none.parquet")
    for name in ("one", "none"):
        folder = cut(tmp_path / f"{name}.parquet", tmp_path / name, 3)
        options = Options(budget=9, clusters=0, answer="random", weights={"difficulty": 1.0})
        with open_pool(folder) as pool:
            found = select(pool, options, method=random_choice())
            again = select(pool, options, method=random_choice(), run=run_here)
        assert found.table.equals(again.table)
        for row in found.table.to_pylist():
            own = {
                each["sample"]: each for each in rows if each["id"] == row["id"] and each["response"].strip()
            }
            rewards = [each["score"] for each in own.values() if each["score"] is not None]
            assert row["sample"] in own
            assert row["reward"] == (own[row["sample"]]["score"] if name == "one" else None)
            assert row["reward"] in {None, *rewards}


def test_lengths_and_marks_are_those_of_the_sample_that_is_taken(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    taken = lambda row: rows[row["id"], row["model"], row["sample"]]  # noqa: E731
    options = Options(budget=9, **weights())
    with open_pool(tmp_path / "pool.parquet") as pool:
        longest = select(pool, options, method=by_length(of="answer"))
        marked = select(pool, options, method=by_column(column="other"))
        for name, made in (("ours", select(pool, options)), ("longest", longest)):
            export(made, pool, tmp_path / name)
    for row in longest.table.to_pylist():
        assert row["score"] is None or row["score"] == len(taken(row)["response"])
    for row in marked.table.to_pylist():
        assert row["score"] is None or row["score"] == taken(row)["other"]
    found = compare([str(tmp_path / "ours"), str(tmp_path / "longest")], clusters=2, cache=False)
    lengths = [len(taken(row)["response"]) for row in longest.rows()]
    assert found.sides[1].figures["answer_length"] == pytest.approx(np.mean(lengths))


def test_why_names_the_sample_and_its_reward(tmp_path, run):
    rows = write(tmp_path / "pool.parquet")
    asked = ("--reward", "score", "--clusters", 0, "--weights", "difficulty=1", "--budget", 9)
    assert run("select", tmp_path / "pool.parquet", *asked, "-o", tmp_path / "out").code == 0
    told = json.loads(run("why", tmp_path / "out", "q005", "--json").out)
    taken = rows["q005", told["model"], told["sample"]]
    assert (told["answer"], told["reward"]) == (taken["response"], taken["score"])
    said = run("why", tmp_path / "out", "q005").out
    assert f"answer of {told['model']}, sample {told['sample']}\n" in said
    assert f"answer to train on: {told['model']}, sample {told['sample']} (reward {taken['score']:g};" in said


def test_a_pool_without_samples_names_none_and_an_older_folder_is_read(tmp_path, sim, run):
    with open_pool(sim) as pool:
        chosen = select(pool, Options(budget=9, clusters=0, pairs="best-worst"))
        assert not [name for name in chosen.table.column_names if "sample" in name]
    write(tmp_path / "pool.parquet", change=lambda row: {**row, "response": f"a {row['sample']}"})
    with open_pool(tmp_path / "pool.parquet") as pool:
        chosen = select(pool, Options(budget=9, **weights()))
        export(chosen, pool, tmp_path / "out")
    file = tmp_path / "out" / "selection.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["sample"]), file)
    told = json.loads(run("why", tmp_path / "out", "q005", "--json").out)
    assert told["answer"] == "a 0"  # as it was then: the first


def test_robustness_of_pairs(tmp_path):
    write(tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as pool:
        options = Options(budget=9, pairs="best-worst", **weights())
        found = robustness(pool, options, bootstraps=2, seeds=1, clusters=())
        expected = [row["id"] for row in select(pool, options).table.to_pylist() if row["selected"]]
    assert list(found.chosen) == expected
    assert {variant.axis for variant in found.variants} >= {"model", "crowd", "reward"}


def test_numbers_of_samples_need_not_be_whole(tmp_path):
    rows = write(tmp_path / "pool.parquet", change=lambda row: {**row, "sample": row["sample"] / 2})
    with open_pool(tmp_path / "pool.parquet") as pool:
        found = select(pool, Options(budget=9, **weights()))
    check(rows, found.table.to_pylist())


@pytest.fixture
def case():
    folder = os.environ.get("CROWDSELECT_CASES")
    if not folder:
        pytest.skip("CROWDSELECT_CASES is not set: the reported inputs are not here")
    return Path(folder) / "72_first_sample_not_best"


def test_no_wrong_sample_is_taught_where_another_is_right(case, tmp_path, run):
    ran = run("select", case, "--budget", 3, "--clusters", 0, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    for record in records(tmp_path / "out").values():
        assert record["messages"][-1]["content"].startswith("RIGHT")


def test_a_sample_that_was_cut_is_not_the_one_that_is_taught(tmp_path):
    """The best-rewarded sample of the best model was cut: its next one is taken, unless cut ones may be."""
    rows = [
        {
            "id": "q",
            "instruction": "Count.",
            "model": model,
            "sample": number,
            "response": f"{model} {number}",
            **more,
        }
        for model, number, more in (
            ("m-1b", 0, {"score": 1.0, "finish_reason": "stop"}),
            ("m-1b", 1, {"score": 2.0, "finish_reason": "stop"}),
            ("m-7b", 0, {"score": 9.0, "finish_reason": "length"}),
            ("m-7b", 1, {"score": 5.0, "finish_reason": "stop"}),
            ("m-7b", 2, {"score": 4.0, "finish_reason": "stop"}),
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    taken = {}
    for allow_cut in (False, True):
        with open_pool(tmp_path / "pool.parquet") as pool:
            found = select(
                pool, Options(budget=1, clusters=0, weights={"separability": 1.0}, allow_cut=allow_cut)
            )
        row = found.rows()[0]
        taken[allow_cut] = (row["model"], row["sample"], row["reward"])
    assert taken == {False: ("m-7b", 1, 5.0), True: ("m-7b", 0, 9.0)}


# Pairs of one model, several answers, properties


@pytest.mark.parametrize("answer", ["best", "model:qwen2.5-7b"])
def test_pairs_of_one_model_are_the_widest(answer, tmp_path):
    change = lambda row: {**row, "response": row["response"][: -1 - row["sample"] % 3]}  # noqa: E731  (some texts agree)
    rows = write(tmp_path / "pool.parquet", n=80, change=change)
    with open_pool(tmp_path / "pool.parquet") as pool:
        options = Options(budget=12, pairs="within-model", answer=answer, **weights())
        chosen = select(pool, options)
        export(chosen, pool, tmp_path / "out")
    for row in chosen.table.to_pylist():
        own = [
            each
            for key, each in rows.items()
            if key[0] == row["id"] and each["response"].strip() and each["score"] is not None
            if answer in {"best", f"model:{key[1]}"}
        ]
        widest = max(
            (
                one["score"] - other["score"]
                for one in own
                for other in own
                if one["model"] == other["model"]
                and one["response"].lower().split() != other["response"].lower().split()
            ),
            default=0,
        )
        assert (row["reason"] == "no_pair") == (widest <= 0) or row["reason"] != "no_pair"
        if row["model"] is None:
            assert widest <= 0 or row["reason"] not in {"no_pair", "selected", "below_cut"}
            continue
        assert row["model"] == row["rejected_model"]
        assert row["reward"] - row["rejected_reward"] == widest > 0
        assert rows[row["id"], row["model"], row["sample"]]["score"] == row["reward"]
    for record in records(tmp_path / "out").values():
        assert record["chosen"] != record["rejected"]


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("low", [None, "1", "50%"])
def test_several_answers_are_the_best_different_ones(sampled, low, tmp_path):
    change = lambda row: {**row, "response": row["response"].replace("xx", "x \n")}  # noqa: E731
    rows = write(tmp_path / "pool.parquet", n=60, samples=4 if sampled else 1, change=change)
    if not sampled:
        table = pq.read_table(tmp_path / "pool.parquet").drop_columns(["sample"])
        pq.write_table(table, tmp_path / "pool.parquet")
    keep = () if low is None else (f"best_reward={low}..",)
    with open_pool(tmp_path / "pool.parquet") as pool:
        chosen = select(pool, Options(budget=12, answers_per_row=3, keep=keep, **weights()))
        export(chosen, pool, tmp_path / "out")
    best = [
        max(
            (
                e["score"]
                for k, e in rows.items()
                if k[0] == row["id"] and e["response"].strip() and e["score"] is not None
            ),
            default=np.nan,
        )
        for row in chosen.table.to_pylist()
    ]
    floor = {
        None: -np.inf,
        "1": 1.0,
        "50%": np.quantile(np.array(best)[~np.isnan(best)], 0.5, method="higher"),
    }[low]
    total = 0
    for row in chosen.rows():
        texts = {}
        for key, each in rows.items():
            if key[0] == row["id"] and each["response"].strip() and each["score"] is not None:
                text = " ".join(each["response"].split())
                texts[text] = max(each["score"], texts.get(text, -np.inf))
        wanted = sorted((score for score in texts.values() if score >= floor), reverse=True)[:3]
        assert [each["reward"] for each in row["answers"]] == wanted
        assert row["answers"][0]["model"] == row["model"]
        assert row["answers"][0].get("sample") == row.get("sample")
        said = [
            rows[row["id"], each["model"], each.get("sample") or 0]["response"] for each in row["answers"]
        ]
        assert len({" ".join(text.split()) for text in said}) == len(said)
        total += len(said)
    written = (tmp_path / "out" / "train.jsonl").read_text().splitlines()
    assert len(written) == total == chosen.facts["answers"]["all"]
    fewer = sum(len(row["answers"]) < 3 for row in chosen.rows())
    assert chosen.facts["answers"]["fewer"] == fewer
    assert any("have fewer than 3 different answers" in line for line in chosen.warnings) == (fewer > 0)


@pytest.mark.parametrize("more", [{"pairs": "within-model"}, {"answers_per_row": 3}, {"answer": "random"}])
def test_several_files_and_another_order_take_the_same(more, tmp_path):
    write(tmp_path / "pool.parquet")
    folder = cut(tmp_path / "pool.parquet", tmp_path / "in", 7)
    table = pq.read_table(tmp_path / "pool.parquet")
    pq.write_table(table.take(np.random.default_rng(4).permutation(len(table))), tmp_path / "other.parquet")
    keep, also = ("rewards=1..", "length=1..", "best_reward=5%.."), {"reward:llama-3-8b": 1.0}
    options = Options(budget=9, keep=keep, **{**weights(), "weights": {"within": 1.0, **also}}, **more)
    with open_pool(tmp_path / "pool.parquet") as pool, open_pool(folder) as parts:
        export(select(pool, options), pool, tmp_path / "whole")
        export(select(parts, options, run=run_here), parts, tmp_path / "parts", run=run_here)
    with open_pool(tmp_path / "other.parquet") as pool:
        export(select(pool, options), pool, tmp_path / "turned")
    for file in ("train.jsonl", "selection.parquet"):
        one, *others = ((tmp_path / name / file).read_bytes() for name in ("whole", "parts", "turned"))
        assert others == [one, one]


@pytest.mark.parametrize("answer", ["best", "random", "top2-random"])
def test_a_sample_more_changes_no_other_rows_answer(answer, tmp_path):
    write(tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    extra = {
        "id": "q005",
        "instruction": "Question number 5?",
        "model": MODELS[0],
        "sample": 9,
        "response": "new",
    }
    more = pa.Table.from_pylist([{**extra, "score": 9.0, "other": 1.0}], schema=table.schema)
    pq.write_table(pa.concat_tables([table, more]), tmp_path / "more.parquet")
    found = []
    for name in ("pool.parquet", "more.parquet"):
        with open_pool(tmp_path / name) as pool:
            chosen = select(pool, Options(budget=9, answer=answer, **weights())).table
        keys = ("id", "model", "sample", "reward", "within", "difficulty")
        found.append({row["id"]: [row[key] for key in keys] for row in chosen.to_pylist()})
    before, after = found
    assert {id_ for id_ in before if before[id_] != after[id_]} == {"q005"}
    if answer == "best":
        assert after["q005"][1:4] == [MODELS[0], 9, 9.0]


def test_within_by_brute_force_and_separability_of_the_means(tmp_path):
    rows = write(tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as pool:
        table = select(pool, Options(budget=9, **weights())).table.to_pylist()
    for row in table:
        cells = [
            [
                each["score"]
                for key, each in rows.items()
                if key[:2] == (row["id"], model) and each["score"] is not None
            ]
            for model in MODELS
        ]
        variances = [np.var(cell) for cell in cells if len(cell) > 1]
        means = [np.mean(cell) for cell in cells if cell]
        assert row["within"] == (pytest.approx(np.mean(variances)) if variances else None)
        assert row["separability"] == pytest.approx(np.var(means))


def test_a_pool_whose_samples_are_single_has_no_such_metric(tmp_path):
    write(tmp_path / "pool.parquet", samples=1)
    with open_pool(tmp_path / "pool.parquet") as pool:
        assert "within" not in select(pool, Options(budget=9, **weights())).table.column_names


def test_copies_of_rows_are_not_called_samples_that_differ(tmp_path):
    """A row that stands twice is told as that; the scores are the same with it and without."""
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}?", "model": model, "response": f"A {i}", "score": i + j}
        for i in range(4)
        for j, model in enumerate(("m", "n"))
    ]

    def read(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        with open_pool(path) as pool:
            return pool.scores().tolist(), [note for note in pool.notes if "sample" in note]

    scores, notes = read("once.jsonl", rows)
    copied, told = read("copied.jsonl", [*rows, *rows[:3]])
    differ, samples = read("differ.jsonl", [*rows, *rows[:3], {**rows[3], "response": "B"}])
    assert scores == copied == differ
    assert notes == []
    assert len(told) == 1
    assert told[0].startswith("3 rows equal to another in all columns and without a sample number")
    [line] = samples
    assert line.startswith(
        "8 answers share instruction and model and have no sample number: they are samples"
    )
    assert line.endswith("numbered by their content; 3 of them repeat another in all columns")


@pytest.mark.parametrize("layout", ["long", "pairs"])
@pytest.mark.parametrize(("reasoning", "second"), [("keep", 0.9), ("drop", 0.2)])
def test_other_reasoning_makes_another_answer_where_it_is_trained_on(tmp_path, layout, reasoning, second):
    """Two models that reason differently to one end: with their reasoning they are two answers, without it one."""
    said = {"a": ("Two and two.", "4", 1.0), "b": ("Three and one.", "4", 0.9), "c": ("Guess.", "5", 0.2)}
    rows = []
    for at in range(12):
        texts = {model: f"<think>{why}</think>{end}" for model, (why, end, _) in said.items()}
        values = {model: value - at / 1000 for model, (*_, value) in said.items()}
        if layout == "long":
            rows += [
                {"id": at, "instruction": f"Sum {at}?", "model": m, "response": texts[m], "score": values[m]}
                for m in said
            ]
        else:
            columns = {f"response_{m}": texts[m] for m in said} | {f"score_{m}": values[m] for m in said}
            rows.append({"id": at, "instruction": f"Sum {at}?", **columns})
    with open_pool(rows, reasoning=reasoning) as pool:
        options = Options(budget=3, clusters=0, answers_per_row=2, weights={"difficulty": 1})
        folder = export(select(pool, options), pool, tmp_path / "out")
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    ends = [line["messages"][-1]["content"].rpartition(">")[2] for line in lines]
    assert sorted(ends) == (["4"] * 6 if second == 0.9 else ["4"] * 3 + ["5"] * 3)
