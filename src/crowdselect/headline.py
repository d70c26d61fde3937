"""The head of a report: one paragraph of figures, every warning, and the difference to chance."""

import json
from pathlib import Path

import numpy as np

from crowdselect.controls import random_control
from crowdselect.eligibility import REASONS
from crowdselect.page import esc, table
from crowdselect.rundata import Run


def head(run: Run) -> str:
    """Title, paragraph, warnings."""
    facts = run.facts
    simulated = (
        '<div class="simulated">SIMULATED POOL: no real model or reward is behind these numbers</div>'
        if facts.get("simulated")
        else ""
    )
    warnings = [*run.selection.warnings, *facts.get("notes", []), *run.problems]
    listed = "".join(f"<li>{esc(text)}</li>" for text in dict.fromkeys(warnings))
    return (
        f'{simulated}<header id="done"><div class="in"><p class="eyebrow">crowdselect report</p>'
        f"<h1>{int(run.chosen.sum()):,} rows to train on</h1>"
        f'<p class="lead">{_paragraph(run)}</p>'
        + (f'<ul class="warnings">{listed}</ul>' if listed else "")
        + "</div></header>"
    )


def _paragraph(run: Run) -> str:
    facts, options = run.facts, run.options
    n, eligible, chosen = len(run.ids), int(run.eligible.sum()), int(run.chosen.sum())
    filled = facts.get("filled", 1)
    gaps = "" if filled == 1 else f" ({filled:.1%} of the rewards are there)"
    method = options.get("method", "crowdselect")
    weights = {name: w for name, w in (options.get("weights") or {}).items() if w}
    formula = (
        " + ".join(f"{w:g} \u00d7 {name}" for name, w in weights.items()) if method == "crowdselect" else ""
    )
    sentences = [
        f"From <b>{n:,}</b> instructions of <b>{esc(pool_name(run))}</b>, answered by <b>{facts['models']:,}</b> models and "
        f"scored in the column <b>{esc(facts['reward'])}</b>{gaps}, <b class=hit>{chosen:,}</b> of <b>{eligible:,}</b> eligible rows were chosen"
        + ("" if method == "crowdselect" else f" by the baseline <b>{esc(method)}</b>")
        + "."
    ]
    if formula:
        sentences.append(
            f"A row's score is <b>{esc(formula)}</b>, each metric as the share of eligible rows below it."
        )
    sentences.append(_cluster_sentence(run))
    answer = options.get("answer", "best")
    who = "the best-rewarded answer" if answer == "best" else f"the answer by the rule {answer}"
    teachers = len({name for name in run.models[run.chosen] if name is not None})
    rewards = run.number("reward")[run.chosen]
    mean = "" if np.isnan(rewards).all() else f", with a mean reward of <b>{np.nanmean(rewards):.4g}</b>"
    sentences.append(f"To be trained on is {esc(who)}, from <b>{teachers:,}</b> models{mean}.")
    barred = {code: k for code, k in run.selection.counts().items() if code not in {"selected", "below_cut"}}
    if barred:
        listed = ", ".join(f"<b>{k:,}</b> {esc(code.replace('_', ' '))}" for code, k in barred.items())
        sentences.append(f"Not taken for another reason than the score: {listed}.")
    return " ".join(sentence for sentence in sentences if sentence)


def _cluster_sentence(run: Run) -> str:
    quotas = [int(quota) for quota in (run.facts.get("quotas") or {}).values()]
    if not quotas:
        return "There were no clusters."
    by = run.options.get("cluster_by")
    how = f"the column {by}" if by else f"k-means on the vectors of {run.facts.get('embedder')}"
    gave = f"{min(quotas):,}" if min(quotas) == max(quotas) else f"{min(quotas):,} to {max(quotas):,}"
    return f"<b>{len(quotas):,}</b> clusters, by {esc(how)}, gave <b>{gave}</b> each."


def done(run: Run) -> str:
    """The difference to chance, the reasons of all rows, the options."""
    counts = run.selection.counts()
    reasons = table(
        ["reason", "rows", "what it says"],
        [
            [f'<span class="id">{esc(code)}</span>', f"{k:,}", esc(REASONS[code])]
            for code, k in counts.items()
        ],
        numbers=[1],
    )
    options = "".join(
        f"<dt>{esc(name)}</dt><dd>{esc(_plain(value))}</dd>"
        for name, value in [
            ("pool", run.facts.get("pool")),
            ("fingerprint", run.facts.get("fingerprint")),
            *run.options.items(),
        ]
        if value is not None
    )
    return (
        _against_chance(run)
        + f'<details class="more"><summary>Every instruction of the pool, by reason</summary>{reasons}</details>'
        + f'<details class="more"><summary>All options</summary><dl class="pair">{options}</dl></details>'
    )


def _against_chance(run: Run) -> str:
    controls = random_control(run.selection)
    rows = []
    for name, c in controls.items():
        apart = (c.chosen - c.random) / c.spread if c.spread > 0 else None
        mark = "\u2013" if apart is None else f"{apart:+.1f}"
        rows.append(
            [
                esc("reward of the answer" if name == "reward" else name),
                f"{c.chosen:.4g}",
                f"{c.random:.4g} ± {c.spread:.2g}",
                mark if apart is None or abs(apart) <= 2 else f"<b>{mark}</b>",
            ]
        )
    if not rows:
        return ""
    return (
        '<section><h2>Against chance</h2><p class="note">Means over the chosen rows, and over 200 random choices with the same '
        "quotas. Up to two spreads apart is what chance does; whether a difference helps training is another question.</p>"
        + table(["mean of", "chosen", "random ± spread", "spreads apart"], rows, numbers=[1, 2, 3])
        + "</section>"
    )


def pool_name(run: Run) -> str:
    """The pool's file name, for titles."""
    return Path(str(run.facts.get("pool", "the pool"))).name


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
