"""`answer='fits:MODEL'`: of the good answers of each chosen row the one that a model finds most likely."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import manifest, train
from crowdselect import Options, export, open_pool, select
from crowdselect.engine.here import run_here
from crowdselect.errors import OptionError, RewardError
from crowdselect.methods import METHODS
from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.responses import fits_of
from crowdselect.pool.howread import HowRead
from crowdselect.selection import run as running

MODELS = tuple("abcdefg")
THIRD = 1 / 3


@dataclass
class Scorer:
    """Stands in for a language model: a fit by the text alone, the same for some texts, none for a few."""

    asked: list[str] = field(default_factory=list)

    def __call__(self, rows):
        self.asked += [row.answer for row in rows]
        assert len(rows) <= 256
        return np.array([fit(row.answer) for row in rows])

    def are_known(self, rows):
        return np.array([float(row.answer in self.asked) for row in rows])


def fit(text: str) -> float:
    """A few values only, so that many are equal."""
    number = sum(text.encode()) % 7
    return np.nan if number == 0 else -float(number // 2)


@pytest.fixture
def scored_by(monkeypatch):
    """Set what scores answers in place of the model."""

    def put(scorer):
        monkeypatch.setattr(
            running, "scorer_of", lambda options, _: scorer if fits_of(options.answer) else None
        )
        return scorer

    return put


@pytest.fixture
def scorer(scored_by):
    return scored_by(Scorer())


def write(path, *, samples=1, n=40, seed=0, order=0, files=1):
    """A pool with gaps: no text, no reward, cut answers, equal rewards, and answers that say the same; and its rows by id."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for model in MODELS:
            for sample in range(samples):
                said = f"{'' if rng.random() < 0.15 else model}{int(rng.integers(10**6))}"
                row = {
                    "id": f"q{i:03d}",
                    "instruction": f"Question {i}?",
                    "model": model,
                    "response": " " if rng.random() < 0.1 else "the same" if rng.random() < 0.1 else said,
                    "finish_reason": "length" if rng.random() < 0.1 else "stop",
                    "score": None if rng.random() < 0.1 else float(rng.integers(0, 6)) / 10,
                    "other": float(rng.integers(9)),
                }
                rows.append(row if samples == 1 else {**row, "sample": sample})
    by_id = defaultdict(list)
    for row in rows:
        by_id[row["id"]].append(row)
    rows = [rows[at] for at in np.random.default_rng(order).permutation(len(rows))]
    if files == 1:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return by_id
    path.mkdir()
    for number in range(files):
        own = [row for row in rows if int(row["id"][1:]) % files == number]
        pq.write_table(pa.Table.from_pylist(own), path / f"{number}.parquet")
    return by_id


def good(rows, share, *, cut=False, floor=-np.inf):
    """The good answers of one instruction, by brute force."""
    usable = [
        row
        for row in rows
        if row["score"] is not None and row["response"].strip() and (cut or row["finish_reason"] == "stop")
    ]
    mean = float(np.mean([row["score"] for row in usable]))
    return [
        row
        for row in usable
        if sum(other["score"] > row["score"] for other in usable) < share * len(usable) - 1e-9
        and row["score"] > mean - 1e-9
        and row["score"] >= floor
    ]


def best(answers):
    """Those that may be taken: the highest fit, of these the highest reward."""

    def worth(row):
        own = fit(row["response"])
        return (-np.inf if np.isnan(own) else own), row["score"]

    highest = max(map(worth, answers))
    return [row for row in answers if worth(row) == highest]


def options(**more):
    given = {"budget": 25, "clusters": 0, "weights": {"difficulty": 1.0}, "reward": "score"}
    return Options(**{**given, "answer": "fits:student", **more})


def chosen(path, run=None, method=None, **more):
    with open_pool(path) as pool:
        return select(pool, options(**more), run=run, method=method)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("share", [THIRD, 0.1, 0.5, 1.0])
def test_the_best_fit_of_the_good_answers_is_taken(samples, share, tmp_path, scorer):
    rows = write(tmp_path / "pool.parquet", samples=samples)
    found = chosen(tmp_path / "pool.parquet", answer=f"fits:student,{share}")
    scored = set()
    for row in found.rows():
        answers = good(rows[row["id"]], share)
        texts = {each["response"] for each in answers}
        scored |= texts
        key = (row["model"], row.get("sample"), row["reward"])
        assert key in [(each["model"], each.get("sample"), each["score"]) for each in best(answers)]
        assert row["good_answers"] == len(texts)
        taken = fit(best(answers)[0]["response"])
        assert row["fit"] is None if np.isnan(taken) else row["fit"] == taken
    assert set(scorer.asked) == scored  # and no answer of another row
    plain = chosen(tmp_path / "pool.parquet", answer="best")
    assert found.chosen == plain.chosen
    others = ~np.asarray(found.table["selected"])
    assert found.table["fit"].filter(pa.array(others)).null_count == others.sum()
    for name in ("model", "reward", "reason", "score"):
        mask = pa.array(others)
        assert found.table[name].filter(mask).equals(plain.table[name].filter(mask))


def test_equal_fits_go_by_reward_and_then_by_the_seeded_hash(tmp_path, scored_by):
    rows = write(tmp_path / "pool.parquet")
    scored_by(lambda answers: np.zeros(len(answers)))
    found = chosen(tmp_path / "pool.parquet", answer="fits:student,1.0")
    plain = chosen(tmp_path / "pool.parquet", answer="best")
    ties = 0
    for row, usual in zip(found.rows(), plain.rows(), strict=True):
        answers = good(rows[row["id"]], 1.0)
        highest = [each for each in answers if each["score"] == max(a["score"] for a in answers)]
        ties += len(highest) > 1
        assert (row["model"], row["reward"]) == (usual["model"], usual["reward"])
    assert ties > 3


@pytest.mark.parametrize("samples", [1, 3])
def test_the_choice_is_the_same_in_any_order_and_file_by_file(samples, tmp_path, scorer):
    write(tmp_path / "pool.parquet", samples=samples)
    write(tmp_path / "turned.parquet", samples=samples, order=1)
    write(tmp_path / "files", samples=samples, files=3)
    first = chosen(tmp_path / "pool.parquet")
    asked = sorted(scorer.asked)
    for path, run in (("turned.parquet", None), ("files", None), ("files", run_here)):
        scorer.asked.clear()
        assert chosen(tmp_path / path, run=run).table.equals(first.table)
        assert sorted(scorer.asked) == asked


def test_what_is_scored_is_what_is_trained_on(tmp_path, scorer):
    write(tmp_path / "files", files=3)
    for run in (None, run_here):
        scorer.asked.clear()
        with open_pool(tmp_path / "files") as pool:
            export(select(pool, options(), run=run), pool, tmp_path / f"out-{run is None}")
        taken = [row["messages"][-1]["content"] for row in train(tmp_path / f"out-{run is None}")]
        assert set(taken) <= set(scorer.asked)
    assert train(tmp_path / "out-True") == train(tmp_path / "out-False")
    facts = manifest(tmp_path / "out-True")["facts"]["fits"]
    assert facts["scored"] == len(scorer.asked) > 25
    assert facts["without"] == sum(np.isnan(fit(text)) for text in scorer.asked)
    assert facts["fit"] > facts["fit_of_best"]
    assert facts["reward"] < facts["reward_of_best"]
    assert 0 < facts["other_than_best"] <= 25


def test_reasoning_that_is_written_is_scored_and_what_is_dropped_is_not(tmp_path, scorer):
    said = [
        {
            "id": f"q{i}",
            "instruction": f"Q {i}",
            "model": m,
            "score": 1.0 * (m == "a"),
            "response": f"<think>\nhm {m}\n</think>\n\n{i}",
        }
        for i in range(3)
        for m in "ab"
    ]
    pq.write_table(pa.Table.from_pylist(said), tmp_path / "pool.parquet")
    for reasoning, wanted in (("keep", "<think>\nhm a\n</think>\n\n0"), ("drop", "0")):
        scorer.asked.clear()
        with open_pool(tmp_path / "pool.parquet", read=HowRead(reasoning=reasoning)) as pool:
            select(pool, options(budget=3))
        assert wanted in scorer.asked


def test_cut_answers_and_those_below_a_floor_are_not_taken(tmp_path, scorer):
    rows = write(tmp_path / "pool.parquet")
    floor = chosen(
        tmp_path / "pool.parquet", answer="fits:student,1.0", keep=("best_reward=0.5..",), budget=15
    )
    cut = chosen(tmp_path / "pool.parquet", allow_cut=True)
    for row in floor.rows():
        assert row["reward"] >= 0.5
        assert row["good_answers"] == len({r["response"] for r in good(rows[row["id"]], 1.0, floor=0.5)})
    taken = {(row["id"], row["model"]) for row in cut.rows()}
    ends = {(r["id"], r["model"]): r["finish_reason"] for own in rows.values() for r in own}
    assert {ends[key] for key in taken} == {"stop", "length"}
    assert all(
        row["model"] in [r["model"] for r in best(good(rows[row["id"]], THIRD, cut=True))]
        for row in cut.rows()
    )


def test_where_no_answer_has_a_fit_the_best_rewarded_is_taken_and_it_is_said(tmp_path, scored_by):
    write(tmp_path / "pool.parquet")
    scored_by(lambda answers: np.full(len(answers), np.nan))
    found = chosen(tmp_path / "pool.parquet")
    plain = chosen(tmp_path / "pool.parquet", answer="best")
    assert [row["model"] for row in found.rows()] == [row["model"] for row in plain.rows()]
    facts = found.facts["fits"]
    assert (facts["fit"], facts["without"]) == (None, facts["scored"])
    assert any("good answers have no fit" in warning for warning in found.warnings)
    story = found.explain(found.chosen[0])["story"]
    assert any("so the best-rewarded is taken" in line for line in story)


def test_why_names_the_fit_and_how_many_were_good(tmp_path, scorer):
    write(tmp_path / "pool.parquet")
    found = chosen(tmp_path / "pool.parquet", answer="fits:student,0.9")
    several = next(row for row in found.rows() if row["good_answers"] > 1 and row["fit"] is not None)
    story = found.explain(several["id"])["story"]
    wanted = (
        f"its fit to student,0.9 is {several['fit']:.4g} (mean log-likelihood per token): the best fit of "
    )
    assert f"{wanted}{several['good_answers']} good answers" in story
    left = next(row for row in found.table.to_pylist() if row["reason"] == "below_cut")
    story = found.explain(left["id"])["story"]
    assert any(line.startswith("best-rewarded answer: ") for line in story)
    assert any(line.startswith("were it chosen") for line in story)
    assert not any(line.startswith("answer to train on") for line in story)


def test_a_pool_of_one_model_has_one_good_answer_per_row(tmp_path, scorer):
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}", "model": "m", "response": f"m{i}", "score": float(i)}
        for i in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    found = chosen(tmp_path / "pool.parquet", budget=3, method=METHODS["random"]())
    assert {row["good_answers"] for row in found.rows()} == {1}
    assert sorted(scorer.asked) == sorted(f"m{row['id'][1:]}" for row in found.rows())


@pytest.mark.parametrize(
    ("rewards", "share", "wanted"),
    [
        ([5, 4, 3, 2, 1, 0], THIRD, [5, 4]),
        ([5, 4, 3, 2, 1], THIRD, [5, 4]),  # fewer than 5/3 are better than 4
        ([5, 4, 3], THIRD, [5]),
        ([5, 4], THIRD, [5]),
        ([5], 0.01, [5]),
        ([5, 5, 5, 1], 0.01, [5, 5, 5]),  # equal ones stand together
        (
            [0.1, 0.1, 0.1],
            THIRD,
            [0.1, 0.1, 0.1],
        ),  # each is at least the mean, whose last digit is a bit higher
        ([9, 1, 1, 1], 1.0, [9]),
        ([-1, -2, -3, -4], 1.0, [-1, -2]),
        ([3, None, 2, None, 1, None], 0.5, [3, 2]),  # two of three: one is better than 2, fewer than 1.5
        ([None, None], 1.0, []),
    ],
)
def test_what_is_good_enough(rewards, share, wanted):
    reward = np.array([np.nan if value is None else value for value in rewards], dtype=np.float64)
    n = len(reward)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(n)
        answers = Candidates(
            2, np.ones(n, int), order, None, reward[order], order.astype(np.uint64), None, None
        )
        assert reward[order][answers.good_enough(share)].tolist() == wanted


def test_the_same_text_is_listed_once():
    answers = Candidates(
        1,
        np.zeros(4, int),
        np.arange(4),
        None,
        np.array([1.0, 2.0, 2.0, 2.0]),
        np.array([3, 2, 1, 0], dtype=np.uint64),
        text=np.array([7, 7, 8, 7]),
    )
    assert answers.good_enough(1.0).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("fits:", "names no model"),
        ("fits:,0.5", "names no model"),
        ("fits:m,0", "the share is 0; wanted above 0 and at most 1"),
        ("fits:m,-0.1", "the share is -0.1"),
        ("fits:m,1.5", "the share is 1.5"),
        ("fits", "is unknown"),
    ],
)
def test_an_answer_that_is_no_such_one_is_refused(answer, wanted, tmp_path, scorer):
    write(tmp_path / "pool.parquet")
    with pytest.raises(OptionError, match=wanted):
        chosen(tmp_path / "pool.parquet", answer=answer)


def test_a_share_follows_the_last_comma_if_it_is_a_number():
    assert [fits_of(f"fits:{rest}").model for rest in ("a/b", "a,b", "a,b,0.5", "a,.5")] == [
        "a/b",
        "a,b",
        "a,b",
        "a",
    ]
    assert [fits_of(f"fits:{rest}").share for rest in ("a/b", "a,b", "a,b,0.5", "a,.5")] == [
        THIRD,
        THIRD,
        0.5,
        0.5,
    ]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"pairs": "best-worst"}, "cannot be combined with `answer='fits:student'`"),
        ({"pairs": "within-model"}, "cannot be combined with `answer='fits:student'`"),
        ({"answers_per_row": 2}, "cannot be combined with `answer='fits:student'`"),
        ({"format": "rl"}, "writes prompts without answers; leave `answer` out"),
        ({"keep": ("length=..100",)}, "`keep` names its length"),
        ({"weights": {"length": 1.0}}, "`weights` names its length"),
        ({"cluster_by": "length:3"}, "`cluster_by` names its length"),
        ({"method": METHODS["length"](of="answer")}, "`method=length` reads it"),
        ({"method": METHODS["column"](column="other")}, "`method=column` reads its other"),
    ],
)
def test_what_depends_on_the_answer_is_refused(given, wanted, tmp_path, scorer):
    write(tmp_path / "pool.parquet")
    with pytest.raises(OptionError, match=wanted.replace("(", r"\(")):
        chosen(tmp_path / "pool.parquet", **given)
    assert not scorer.asked


def test_a_pool_without_rewards_is_refused(tmp_path, scorer):
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}", "model": m, "response": f"{m}{i}"}
        for i in range(4)
        for m in "ab"
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    with pytest.raises(RewardError, match="no reward"):
        chosen(tmp_path / "pool.parquet", budget=2, reward=None, method=METHODS["random"]())


def test_a_pool_without_answers_is_refused(tmp_path, scorer):
    rows = [
        {"id": f"q{i}", "instruction": f"Q {i}", "model": m, "score": float(i)}
        for i in range(4)
        for m in "ab"
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    with pytest.raises(OptionError, match="the pool holds no answers"):
        chosen(tmp_path / "pool.parquet", budget=2)


# ── with a model ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_models import build_model

    return build_model(tmp_path_factory.mktemp("student") / "model")


def likelihood(folder, instruction, answer):
    """The mean log-likelihood of an answer's tokens and what ends it, straight from the model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    chat = [{"role": "user", "content": instruction}]
    before = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    whole = tokenizer.apply_chat_template(
        [*chat, {"role": "assistant", "content": answer}], tokenize=True, return_dict=True
    )["input_ids"]
    begin = len(before["input_ids"])
    with torch.inference_mode():
        logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(np.mean([logits[at - 1, whole[at]] for at in range(begin, len(whole))]))


@pytest.mark.extra
def test_fits_are_those_of_the_model(student, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write(tmp_path / "pool.parquet", n=12)
    given = ("select", "pool.parquet", "--answer", f"fits:{student},0.5", "--budget", 5, "--clusters", 0)
    given += ("--weights", "difficulty=1", "--reward", "score")
    (work,) = json.loads(run(*given, "--dry-run", "--json").out)["plan"]
    assert (work["what"], work["known"], work["is_here"]) == (f"fits of answers by {student}", 0, True)
    assert run(*given, "-o", "chosen").code == 0
    (again,) = json.loads(run(*given, "--dry-run", "--json").out)["plan"]
    assert again["known"] == again["rows"] == work["rows"]
    table = pq.read_table("chosen/selection.parquet").filter(pa.compute.field("selected"))
    assert work["rows"] == sum(table["good_answers"].to_pylist())
    for row in table.to_pylist():
        fits = {
            each["model"]: likelihood(student, each["instruction"], each["response"])
            for each in good(rows[row["id"]], 0.5)
        }
        assert row["model"] in [
            m for m, own in fits.items() if own == pytest.approx(max(fits.values()), abs=1e-5)
        ]
        assert row["fit"] == pytest.approx(max(fits.values()), abs=1e-4)
    assert "up to date" in run(*given, "-o", "chosen").out
    run(*given, "--max-length", 64, "-o", "chosen").refuses("--max-length was 2048 and is now 64")
    said = run("why", "chosen", table["id"][0].as_py()).out
    assert "mean log-likelihood per token" in " ".join(said.split())
    run(
        "select",
        "pool.parquet",
        "--budget",
        5,
        "--reward",
        "score",
        "--weights",
        "difficulty=1",
        "-o",
        "best",
    )
    told = json.loads(run("compare", "chosen", "best", "--json").out)["selections"]
    assert told[0]["figures"]["answer_fit"] == pytest.approx(np.mean(table["fit"].to_pylist()))
    assert told[1]["figures"]["answer_fit"] is None
    assert "fit of the answer" in run("compare", "chosen", "best").out
    assert "fit of the answer" not in run("compare", "best").out


@pytest.mark.extra
def test_a_dry_run_counts_the_answers_of_the_rows_that_quotas_choose(student, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row for own in write(tmp_path / "pool.parquet").values() for row in own]
    rows = [{**row, "source": "web" if int(row["id"][1:]) < 30 else "book"} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    given = ("select", "pool.parquet", "--answer", f"fits:{student}", "--budget", 8, "--clusters", 2)
    given += ("--weights", "difficulty=1", "--reward", "score", "--quota", "source=equal")
    (work,) = json.loads(run(*given, "--dry-run", "--json").out)["plan"]
    assert run(*given, "-o", "chosen").code == 0
    assert work["rows"] == manifest("chosen")["facts"]["fits"]["scored"]


@pytest.mark.extra
def test_an_answer_that_is_too_long_counts_up_to_the_limit(student, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "id": f"q{i}",
            "instruction": f"Q {i}",
            "model": m,
            "response": f"{m} {i} " * 60,
            "score": float(m == "a"),
        }
        for i in range(4)
        for m in "ab"
    ]
    rows[0]["instruction"] = rows[1]["instruction"] = "long " * 100
    pq.write_table(pa.Table.from_pylist(rows), "pool.parquet")
    given = ("select", "pool.parquet", "--answer", f"fits:{student}", "--budget", 4, "--clusters", 0)
    ran = run(*given, "--method", "random", "--max-length", 64, "-o", "chosen")
    assert ran.code == 0, ran
    assert "1 of 4 good answers have no fit" in " ".join(ran.err.split())
    fits = pq.read_table("chosen/selection.parquet")["fit"].to_pylist()
    assert fits[0] is None
    assert all(np.isfinite(fits[1:]))
    assert manifest("chosen")["facts"]["fits"]["max_length"] == 64


@pytest.mark.extra
def test_a_model_that_cannot_be_loaded_is_refused(student, tmp_path, run, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write(tmp_path / "pool.parquet", n=8)
    given = ("select", tmp_path / "pool.parquet", "--budget", 2, "--reward", "score", "--method", "random")
    given += ("-o", tmp_path / "out", "--answer")
    run(*given, "fits:./nowhere").refuses("./nowhere: no such folder")
    run(*given, "fits:./nowhere", "--dry-run").refuses("./nowhere: no such folder")
    run(*given, "fits:nowhere/", "--dry-run").refuses("nowhere/: no such folder")
    planned = run(*given, "fits:no-owner/no-model", "--dry-run")
    assert planned.code == 0, planned
    assert "no-owner/no-model: the model is not on this machine, and whether the Hub has it" in planned.err
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    run(*given, f"fits:{tmp_path / 'broken'}").refuses("cannot be loaded as a causal language model")
    run(*given, f"fits:{student}", "--batch-tokens", 2).refuses("--batch-tokens 2 is too small")
    assert not (tmp_path / "out").exists()


DEADLY = """
import os, signal
from crowdselect.methods.likelihood import LanguageModel
from crowdselect.selection import fitting
fitting.BATCH = 16
usual, calls = LanguageModel.likelihoods, []
def likelihoods(self, asked):
    calls.append(len(asked))
    if len(calls) > {batches}:
        os.kill(os.getpid(), signal.SIGKILL)
    with open("asked.txt", "a") as log:
        log.write("".join(repr(each) + chr(10) for each in asked))
    return usual(self, asked)
LanguageModel.likelihoods = likelihoods
from crowdselect.cli.main import main
main()
"""


@pytest.mark.extra
def test_a_killed_run_goes_on(student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pool.parquet")
    given = ["select", "pool.parquet", "--answer", f"fits:{student},0.5", "--budget", "30", "--clusters", "0"]
    given += ["--weights", "difficulty=1", "--reward", "score", "-o", "chosen"]

    def killed_after(batches):
        ran = subprocess.run(
            [sys.executable, "-c", DEADLY.format(batches=batches), *given],
            env={**os.environ, "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        asked = (tmp_path / "asked.txt").read_text().splitlines()
        (tmp_path / "asked.txt").unlink()
        return ran, asked

    ran, first = killed_after(2)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert not (tmp_path / "chosen").exists()
    ran, second = killed_after(1000)
    assert ran.returncode == 0, ran.stderr
    assert len(first) == 32
    assert second
    assert not set(first) & set(second)  # what was done is not done again
    assert manifest("chosen")["facts"]["fits"]["scored"] >= len(first) + len(second)
