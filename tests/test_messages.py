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
