"""Messages that a newcomer meets: each once, short, and with what to type."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, open_pool, select
from crowdselect.engine.here import run_here


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Forty questions to three models, one family of two sizes; two columns of rewards, of which neither is the usual one."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "id": f"q{i:02d}",
            "instruction": f"What is {i} plus one?",
            "model": model,
            "response": f"{i + j}",
            "alpha": (i * 7 + j * i) % 11,
            "beta": (i * 5 + j) % 7,
        }
        for i in range(40)
        for j, model in enumerate(("Qwen2.5-3B", "Qwen2.5-7B", "other"))
    ]
    Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


CHOICE = ("pool.jsonl", "--budget", 5, "--clusters", 0)


@pytest.mark.parametrize(("asked", "told"), [(2, True), (3, False), (5, False)])
def test_difficulty_says_that_it_depends_on_who_answered(run, asked, told):
    models = [f"model-{letter}" for letter in "abcde"]
    rows = [
        {
            "id": f"q{i:02d}",
            "instruction": f"What is {i} plus one?",
            "model": models[(i + j) % 5],
            "response": f"{i + j}",
            "score": (i * 7 + j * i) % 11,
        }
        for i in range(40)
        for j in range(asked)
    ]
    Path("drawn.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ran = run("select", "drawn.jsonl", "--budget", 5, "--weights", "difficulty=1,separability=1", "-o", "out")
    warning = (
        "warning: difficulty depends on which models answered: a typical instruction has rewards of 2 of the 5 models; "
        "--weights irt_difficulty=1,separability=1 allows for it\n"
    )
    assert (warning in ran.err) is told
    proposed = warning.replace("--weights ", "`crowdselect select ... --weights ").replace(
        " allows", "` allows"
    )
    seen = run("inspect", "drawn.jsonl")
    assert (proposed in seen.err) is told
    typed = "irt_difficulty=1,separability=1" if told else "difficulty=1,separability=1"
    assert f"crowdselect select drawn.jsonl --weights {typed} --budget 10%" in seen.out
    fair = run(
        "select", "drawn.jsonl", "--budget", 5, "--weights", "irt_difficulty=1,separability=1", "-o", "fair"
    )
    assert fair.code == 0
    assert "depends on which models" not in fair.err


def test_the_noise_of_stability_is_told_once_in_a_line(run):
    ran = run("select", *CHOICE, "--reward", "alpha", "-o", "out")
    [told] = [line for line in ran.err.splitlines() if "stability" in line]
    assert told == (
        "warning: stability is mostly noise here: only 1 model family has two sizes or more; leave it out with "
        "--weights difficulty=1,separability=1"
    )
    typed = told.rpartition(" with ")[2].split()
    assert "stability" not in run("select", *CHOICE, "--reward", "alpha", *typed, "-o", "other").err


def test_where_stability_alone_has_a_weight_the_usual_ones_of_the_others_are_named(run):
    ran = run("select", *CHOICE, "--reward", "alpha", "--weights", "stability=0.5", "-o", "out")
    assert "leave it out with --weights difficulty=1,separability=1\n" in ran.err


def test_robustness_folds_equal_warnings(run):
    ran = run("robustness", *CHOICE, "--reward", "alpha")
    told = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert len(told) == len({line.partition("): ")[2] for line in told})
    [line] = [line for line in told if "stability" in line]
    assert "variants cannot be made (without one model: 2, without one family: 1, a bootstrap crowd: " in line
    assert line.endswith(
        "): no model family has two sizes, so stability is undefined; leave it out with --weights difficulty=1,separability=1"
    )
    variants = json.loads(run("robustness", *CHOICE, "--reward", "alpha", "--json").out)["variants"]
    failed = [variant for variant in variants if "stability" in variant["why"]]
    assert line.startswith(f"warning: {len(failed)} of {len(variants)} variants ")


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ((), "several reward columns: alpha, beta; name the one to use with --reward (`select` combines"),
        (("alpha,beta",), "'alpha,beta' is not one reward column; `select` combines several: give --reward twice"),
        (("alpha", "beta"), "several rewards (alpha, beta) but no --ensemble to combine them; add --ensemble mean"),
    ],
)  # fmt: skip
def test_several_rewards_say_what_to_type(run, rewards, said):
    given = [word for name in rewards for word in ("--reward", name)]
    run("select", *CHOICE, *given, "-o", "out").refuses(said)
    assert (
        run(
            "select", *CHOICE, "--reward", "alpha", "--reward", "beta", "--ensemble", "mean-rank", "-o", "o"
        ).code
        == 0
    )


def _scored(name, scores):
    """Write a pool of two files with these scores, of three models, in turn."""
    Path(name).mkdir()
    for part in range(2):
        rows = [
            {
                "id": f"q{i:02d}",
                "instruction": f"What is {i} plus one?",
                "model": model,
                "response": f"{i + j}",
                "score": float(scores[(3 * i + 2 * j) % len(scores)]),
            }
            for i in range(20 * part, 20 * part + 20)
            for j, model in enumerate(("Qwen2.5-3B", "Qwen2.5-7B", "other"))
        ]
        pq.write_table(pa.Table.from_pylist(rows), Path(name, f"{part}.parquet"))


@pytest.mark.parametrize(
    ("scores", "marker"),
    [
        ((1, 2, -1, 3, 4, 5, 6, 7, 8, 9, 10), "-1"),
        ((0.05, -1, 0.5, 0.95), "-1"),
        ((1, 2, -9, 3, 40), "-9"),
        ((0, 1, -99, 1, 1), "-99"),
        ((0, 500, -999, 900, 1000), "-999"),
        ((0, 1, -9999, 1, 1), "-9999"),
        ((-3.5, 0.25, -999, 2, 1), "-999"),  # logits are below 0, too
        ((1, 2, 999, 3, 4, 5, 6, 7, 8, 9, 10), "999"),
        ((1, 2, 99, 3, 4, 5, 6, 7, 8, 9, 10), "99"),
        ((0.05, 9999, 0.5, 0.95), "9999"),
        ((0, 1, 99, 1, 0), "99"),
        ((0, 20, 999, 90, 100), "999"),
        ((0, 1, -1, 1, 1), None),  # verdicts
        ((-1, 1, 1, 1), None),
        ((-1, 0, 0, 0, 0), None),
        ((-1, -0.5, 2, 0.3, 0.1), None),  # rewards that are below 0 too
        ((-1.5, 0.5, 1, 2, 3), None),
        ((90, 95, 99, 97, 100), None),  # a scale to 100
        ((0, 25, 99, 60, 80), None),
        ((0, 12, 99, 50), None),
        ((0, 99, 99, 0), None),
        ((-50, -99, -20, 3), None),
        ((300, 999, 700, 1000), None),
        ((1, 2, 3, 98, 4), None),  # no marker
    ],
)
def test_a_lowest_value_that_may_mean_no_reward_is_asked_about(run, scores, marker):
    _scored("scored", scores)
    told = [
        run(*words).err for words in (("inspect", "scored"), ("select", "scored", "--budget", 5, "-o", "one"))
    ]
    asked, chosen = ([line for line in said.splitlines() if "may mean no reward" in line] for said in told)
    assert asked == chosen
    with open_pool("scored") as pool:
        by_file = select(pool, Options(budget=5, clusters=0), run=run_here).warnings
    assert [
        f"warning: {line.replace('`missing=', '--missing ').replace('`', '')}"
        for line in by_file
        if "may mean" in line
    ] == asked
    if marker is None:
        assert asked == []
        return
    [line] = asked
    end = "lowest" if marker.startswith("-") else "highest"
    assert line.startswith(f"warning: score: the {end} value {marker} occurs ")
    assert line.endswith(f"; if so, pass --missing {marker}")
    again = run("inspect", "scored", "--missing", marker)
    assert "may mean no reward" not in again.err
    assert f"select scored --missing {marker} " in again.out


def _rows(*, each, models=("x-7b", "x-70b"), count=6):
    rows = [each(i, model, j) for i in range(count) for j, model in enumerate(models)]
    Path("pool.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("columns", [(), ("--columns", "response=said")])
def test_the_command_below_a_warning_does_what_it_says(run, columns):
    said = "said" if columns else "response"
    _rows(
        each=lambda i, model, j: {
            "id": 10 * i + j,
            "instruction": f"Question number {i}?",
            "model": model,
            said: f"x{i}{j}",
            "score": i + j / 2,
        }
    )
    ran = run("inspect", "pool.jsonl", *columns)
    assert "--columns id= makes it of the text" in ran.err
    line = next(line for line in ran.out.splitlines() if "crowdselect select" in line)
    assert f"--columns {'response=said,' if columns else ''}id= " in line
    again = run(*line.replace("10%", "2").split()[1:])
    assert again.code == 0
    assert "--columns id=" not in again.err


def test_the_columns_that_are_read_in_pairs_are_named_as_they_are(run):
    rows = [
        {"prompt": f"Question {i}?", **{m: f"{m} {i}" for m in "ab"}, "a_score": i, "b_score": 9 - i}
        for i in range(6)
    ]
    Path("pool.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert "column pairs: columns MODEL and MODEL_score;" in run("inspect", "pool.jsonl").out


def test_answers_without_text_are_counted_by_the_reward_that_is_used(run):
    _rows(
        each=lambda i, model, j: {
            "id": f"q{i}",
            "instruction": f"Question {i}?",
            "model": model,
            "response": f"x{i}{j}" if i else "",
            "reward": i + j / 2 if i else None,
            "other_score": i + j,
        }
    )
    assert "a reward but no text" not in run("inspect", "pool.jsonl").out
    assert "2 with a reward but no text" in run("inspect", "pool.jsonl", "--reward", "other_score").out


def test_a_reward_that_is_named_is_not_asked_for(run):
    _rows(
        each=lambda i, model, j: {
            "id": f"q{i}",
            "instruction": f"Question {i}?",
            "model": model,
            "response": f"x{i}{j}",
            "a_score": i + j / 2,
            "b_score": i + j,
        }
    )
    assert "Several reward columns: pick one with --reward." in run("inspect", "pool.jsonl").out
    assert "Several reward columns" not in run("inspect", "pool.jsonl", "--reward", "a_score").out


def test_a_column_is_not_taken_for_the_name_of_a_model(run):
    _rows(
        each=lambda i, llm, j: {
            "prompt": f"Question {i}?",
            "llm": llm,
            "completion": f"x{i}{j}",
            "score": i + j,
        }
    )
    run("inspect", "pool.jsonl", "--model", "llm").refuses(
        "llm is a column; if it holds the models, name it with --columns model=llm"
    )
    assert run("inspect", "pool.jsonl", "--columns", "model=llm").code == 0
    rows = [{"prompt": f"Question {i}?", "x-7b": f"y{i}", "score": i} for i in range(6)]
    Path("one.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ran = run("inspect", "one.jsonl", "--model", "x-7b", "--columns", "response=x-7b")
    assert ran.code == 0  # the answers of one model in a column of its name
