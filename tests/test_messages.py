"""Messages that a newcomer meets: each once, short, and with what to type."""

import json
from pathlib import Path

import pytest


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
        "warning: stability is mostly noise here: only 1 model family has two sizes or more; lower its weight (--weights)"
    )


def test_robustness_folds_equal_warnings(run):
    ran = run("robustness", *CHOICE, "--reward", "alpha")
    told = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert len(told) == len({line.partition("): ")[2] for line in told})
    [line] = [line for line in told if "stability" in line]
    assert "variants cannot be made (without one model: 2, without one family: 1, a bootstrap crowd: " in line
    assert line.endswith("): no model family has two sizes, so stability is undefined")
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
