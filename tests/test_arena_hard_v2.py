"""Arena-Hard's second version: a baseline for each category, style control; answers that are errors of other tools."""

import json
import math

import numpy as np
import pytest

from crowdselect.evaluate.style import STYLES, style_controlled, style_counts, style_differences
from judging import Bench, compared, read_jsonl, serve, write_jsonl

CATEGORIES = ("hard_prompt", "creative_writing")


def result(folder):
    return json.loads((folder / "result.json").read_text())


def write_questions(folder, count=8):
    rows = [{"uid": f"u{n}", "category": CATEGORIES[n % 2], "prompt": f"Hard {n}?"} for n in range(count)]
    return write_jsonl(folder / "v2.jsonl", rows)


def answers_of(model, texts, **metadata):
    return [
        {
            "uid": f"u{n}",
            "model": model,
            "messages": [
                {"role": "user", "content": f"Hard {n}?"},
                {"role": "assistant", "content": {"answer": text}},
            ],
            "metadata": {name: value[n] for name, value in metadata.items()},
        }
        for n, text in enumerate(texts)
    ]


# Baselines


@pytest.mark.extra
def test_each_category_is_compared_with_its_own_baseline(run, tmp_path):
    pytest.importorskip("openai")
    questions = write_questions(tmp_path)
    model = write_jsonl(tmp_path / "m.jsonl", answers_of("m", ["x" * (30 + n) for n in range(8)]))
    short = write_jsonl(tmp_path / "s.jsonl", answers_of("short", ["x" * (20 + n) for n in range(8)]))
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        given = (
            "evaluate",
            "arena-hard",
            "--answers",
            model,
            "--questions",
            questions,
            "--judge",
            f"{bench.crowd}#judge",
        )
        named = ("--baseline", f"hard_prompt={short}", "--baseline", f"creative_writing={bench.crowd}#other")
        ran = run(*given, *named, "-o", tmp_path / "out")
        assert ran.code == 0, ran
        asked = [body["messages"][0]["content"] for body in server.requests_of("other")]
        assert sorted(asked) == [f"Hard {n}?" for n in (1, 3, 5, 7)]
        # One without a category is for the others.
        rest = ("--baseline", short, "--baseline", f"creative_writing={bench.crowd}#other")
        assert run(*given, *rest, "-o", tmp_path / "rest").code == 0
        plan = json.loads(run(*given, *named, "-o", tmp_path / "new", "--dry-run", "--json").out)["plan"]
        assert plan["answers other"]["calls"] == 4
        assert plan["judge judge"]["calls"] == 16
    found = result(tmp_path / "out")
    assert found["baseline"] == "creative_writing: other, hard_prompt: short"
    parts = found["categories"]
    assert {name: part["baseline"] for name, part in parts.items()} == {
        "hard_prompt": "short",
        "creative_writing": "other",
    }
    assert parts["hard_prompt"]["score"] == 100.0  # the judge prefers length
    assert found["as_arena_hard_auto"] is None
    assert parts["hard_prompt"]["as_arena_hard_auto"]["score"] == 100.0
    others = {
        row["uid"]: row["messages"][-1]["content"]["answer"]
        for row in read_jsonl(tmp_path / "out" / "baseline_answers.jsonl")
    }
    labels = [compared("x" * (30 + n), others[f"u{n}"]) for n in (1, 3, 5, 7)]
    weights = [3 if ">>" in label else 1 for label in labels]
    shares = [0.5 if label == "A=B" else float(label[0] == "A") for label in labels]
    truth = 100 * sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)
    assert parts["creative_writing"]["score"] == pytest.approx(truth)
    rows = {row["uid"]: row["baseline"] for row in read_jsonl(tmp_path / "out" / "judgments.jsonl")}
    assert rows == {f"u{n}": ("short", "other")[n % 2] for n in range(8)}
    assert result(tmp_path / "rest")["questions"] == found["questions"]
    # What was written is read back with its baselines.
    again = (
        "evaluate",
        "arena-hard",
        "--questions",
        questions,
        "--judgments",
        tmp_path / "out" / "judgments.jsonl",
    )
    assert run(*again, "-o", tmp_path / "again").code == 0
    for name, part in result(tmp_path / "again")["categories"].items():
        assert (part["baseline"], part["score"]) == (parts[name]["baseline"], parts[name]["score"])


@pytest.mark.parametrize(
    ("baselines", "said"),
    [
        (["hard=B"], "the questions have no category 'hard'; they have 'creative_writing', 'hard_prompt'"),
        (["hard_prompt=B"], "the category 'creative_writing' has none"),
        (["hard_prompt=B", "hard_prompt=B", "B"], "names the category 'hard_prompt' twice"),
        (["B", "B"], "is given twice without a category"),
    ],
)
def test_baselines_that_do_not_fit_the_categories(baselines, said, run, tmp_path):
    questions = write_questions(tmp_path)
    file = write_jsonl(tmp_path / "m.jsonl", answers_of("m", ["x"] * 8))
    bench = Bench(tmp_path, "http://127.0.0.1:9")
    named = [part for text in baselines for part in ("--baseline", text.replace("B", str(file)))]
    run(
        *(
            "evaluate",
            "arena-hard",
            "--answers",
            file,
            "--questions",
            questions,
            "--judge",
            f"{bench.crowd}#judge",
        ),
        *named,
        *("-o", tmp_path / "out"),
    ).refuses(said)


def test_two_baselines_in_one_category_are_refused(run, tmp_path):
    questions = write_questions(tmp_path)
    games = [{"score": "A>B"}, {"score": "B>A"}]
    rows = [{"uid": f"u{n}", "model": "m", "judge": "j", "baseline": f"b{n}", "games": games} for n in (0, 2)]
    file = write_jsonl(tmp_path / "j.jsonl", rows)
    run(
        "evaluate", "arena-hard", "--questions", questions, "--judgments", file, "-o", tmp_path / "out"
    ).refuses("by or against several: b0, b2")


# Errors of other tools


@pytest.mark.extra
@pytest.mark.parametrize("text", ["$ERROR$", " $error$\n", "**API REQUEST ERROR** Reason: busy"])
def test_an_error_is_a_missing_answer(text, run, tmp_path):
    pytest.importorskip("openai")
    with serve() as server:
        bench = Bench(tmp_path, server.url, questions=2)
        rows = [
            {"question_id": 81, "model_id": "m", "choices": [{"turns": ["one", text]}]},
            {"question_id": 82, "model_id": "m", "choices": [{"turns": [text, "two"]}]},
        ]
        file = write_jsonl(tmp_path / "a.jsonl", rows)
        given = ("--answers", file, "--judge", f"{bench.crowd}#judge", "--questions", bench.mt)
        ran = run("evaluate", "mt-bench", *given, "-o", tmp_path / "out")
        assert len(server.requests) == 1
    assert ran.code == 3
    assert "missing: 2 answers of m with an error such as $ERROR$" in ran.err
    found = result(tmp_path / "out")
    assert found["verdicts"]["missing"] == 3
    assert any("an error of the tool that asked" in reason for reason in found["verdicts"]["reasons"])
    assert found["lengths"]["answers"] == 1


# Style control


def test_counts_of_style():
    text = "# One\n## Two\ntext # no\n\n- a\n* b\n+ c\n1. d\n12. **e** and __f__\n```\n# code\n- code\n**code**\n```\n"
    assert style_counts(text) == (2, 5, 2)
    assert style_counts("") == (0, 0, 0)


def test_differences_of_style_by_hand():
    own = np.array([[300.0, 3, 6, 0], [0.0, 0, 0, 0], [50.0, 0, 5, 5]])
    other = np.array([[100.0, 0, 4, 1], [0.0, 0, 0, 0], [50.0, 0, 5, 0]])
    found = style_differences(own, other)
    assert found[0, 0] == pytest.approx(0.5)
    assert found[0, 1] == pytest.approx(0.01 / 1.01)
    assert found[0, 2] == pytest.approx((0.02 - 0.04) / 1.06)
    assert found[0, 3] == pytest.approx(-0.01 / 1.01)
    assert found[1].tolist() == [0, 0, 0, 0]
    assert found[2].tolist() == pytest.approx([0, 0, 0, 0.1 / 1.1])


def logit(p):
    return math.log(p / (1 - p))


def test_a_table_by_hand_with_a_known_coefficient():
    """Bolder answers win 30 of 40, plainer ones 10 of 40: log-odds +-log 3, and nothing of the model's own."""
    bold = np.repeat([0.2, -0.2], 40)
    share = np.concatenate([np.repeat([1.0, 0.0], [30, 10]), np.repeat([1.0, 0.0], [10, 30])])
    differences = np.zeros((80, 4))
    differences[:, 3] = bold
    found = style_controlled(differences, share, np.ones(80, np.int64), seed=0)
    spread = bold.std(ddof=1)
    assert found["coefficients"] == pytest.approx([0, 0, 0, logit(0.75) / (0.2 / spread)])
    assert found["log_odds"] == pytest.approx(0, abs=1e-9)
    assert found["equal_style"] == pytest.approx(50)
    assert found["low"] < 50 < found["high"]
    assert found["rounds"] == 100


def test_equal_style_is_not_the_mean_style():
    """The model is always bolder: 60 battles by 0.3, of which it wins 3 of 4, and 60 by 0.1, of which it wins half."""
    bold = np.repeat([0.3, 0.1], 60)
    share = np.concatenate([np.repeat([1.0, 0.0], [45, 15]), np.repeat([1.0, 0.0], [30, 30])])
    differences = np.zeros((120, 4))
    differences[:, 3] = bold
    found = style_controlled(differences, share, np.ones(120, np.int64), seed=0)
    assert found["log_odds"] == pytest.approx((logit(0.75) + 0) / 2)  # at the mean difference, 0.2
    slope = logit(0.75) / 0.2
    assert found["equal_style"] == pytest.approx(100 / (1 + math.exp(0.1 * slope)))


def test_style_control_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    differences = generator.normal(size=(300, 4)) * [0.3, 0.02, 0.05, 0.01] + [0.1, 0, 0.02, 0]
    truth = 0.4 + differences @ [2.0, 0.0, 10.0, -20.0]
    share = (generator.random(300) < 1 / (1 + np.exp(-truth))).astype(float)
    share[generator.random(300) < 0.1] = 0.5
    weight = generator.choice([1, 3], 300)
    rows = np.repeat(np.arange(300), weight)
    z = differences[rows]
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    both = np.vstack([z, z])
    model.fit(both, np.repeat([1, 0], len(z)), sample_weight=np.concatenate([share[rows], 1 - share[rows]]))
    found = style_controlled(differences, share, weight, seed=3)
    assert found["log_odds"] == pytest.approx(model.intercept_[0], abs=1e-4)
    assert found["coefficients"] == pytest.approx(model.coef_[0], abs=1e-4)
    at = np.random.default_rng(3).integers(0, len(rows), size=(100, len(rows)))[7]
    model.fit(
        np.vstack([z[at], z[at]]),
        np.repeat([1, 0], len(at)),
        sample_weight=np.concatenate([share[rows][at], 1 - share[rows][at]]),
    )
    assert found["low"] - 5 < 100 / (1 + math.exp(-model.intercept_[0])) < found["high"] + 5


def test_no_fit_is_none():
    differences = np.zeros((6, 4))
    differences[:, 0] = [1, 1, 1, -1, -1, -1]
    ones = np.ones(6, np.int64)
    assert style_controlled(differences, np.array([1.0, 1, 1, 0, 0, 0]), ones, seed=0) is None  # separated
    assert style_controlled(differences, np.ones(6), ones, seed=0) is None
    assert style_controlled(differences[:0], np.ones(0), ones[:0], seed=0) is None


def test_style_control_of_files(run, tmp_path):
    """Features are made of the texts, and lengths are the files' own tokens where all have them."""
    generator = np.random.default_rng(1)
    count = 60
    questions = write_questions(tmp_path, count)
    marks = ["# T\n", "- a\n- b\n", "**c** ", ""]
    sides = {}
    for name in ("m", "b"):
        texts = [
            "".join(generator.choice(marks, 3)) + "x" * int(generator.integers(20, 90)) for _ in range(count)
        ]
        tokens = [int(n) for n in generator.integers(5, 40, count)]
        sides[name] = (
            texts,
            tokens,
            write_jsonl(tmp_path / f"{name}.jsonl", answers_of(name, texts, token_len=tokens)),
        )
    labels = generator.choice(["A>B", "B>A", "A=B", "A>>B"], size=(count, 2)).tolist()
    rows = [
        {
            "uid": f"u{n}",
            "model": "m",
            "judge": "j",
            "baseline": "b",
            "games": [{"score": s} for s in labels[n]],
        }
        for n in range(count)
    ]
    judgments = write_jsonl(tmp_path / "j.jsonl", rows)
    given = ("evaluate", "arena-hard", "--questions", questions, "--judgments", judgments)
    files = ("--answers", sides["m"][2], "--baseline", sides["b"][2])
    assert run(*given, *files, "-o", tmp_path / "out").code == 0
    found = result(tmp_path / "out")["style_control"]
    assert found["lengths_in"] == "tokens"
    assert list(found["coefficients"]) == list(STYLES)
    counts = [
        np.array([(n, *style_counts(t)) for t, n in zip(texts, tokens, strict=True)], float)
        for texts, tokens, _ in sides.values()
    ]
    share = {"A>B": 1.0, "A>>B": 1.0, "A=B": 0.5, "B>A": 0.0}
    order = sorted(range(count), key=lambda n: f"u{n}")
    shares = np.array([one for n in order for one in (1 - share[labels[n][0]], share[labels[n][1]])])
    weights = np.array([3 if label == "A>>B" else 1 for n in order for label in labels[n]])
    differences = np.repeat(style_differences(*counts)[order], 2, axis=0)
    truth = style_controlled(differences, shares, weights, seed=0)
    assert list(found["coefficients"].values()) == pytest.approx(truth["coefficients"])
    for name in ("score", "low", "high", "equal_style", "log_odds"):
        assert found[name] == pytest.approx(truth[name])
    ran = run(*given, "-o", tmp_path / "bare")
    assert result(tmp_path / "bare")["style_control"] == {"score": None, "why": "the answers are not here"}
    assert "with style control" not in ran.out
