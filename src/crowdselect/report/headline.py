"""The head of a report: one paragraph of figures, every warning, and the difference to chance."""

import json
from pathlib import Path

import numpy as np

from crowdselect.report.data import Run
from crowdselect.report.markup import Markup, html, joined
from crowdselect.report.page import table
from crowdselect.selection.controls import random_control
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.methods import CROWD, method_of


def head(run: Run) -> Markup:
    """Title, paragraph, warnings."""
    facts = run.facts
    simulated = html(
        '<div class="simulated">SIMULATED POOL: no real model or reward is behind these numbers</div>'
    )
    warnings = [*run.selection.warnings, *facts.get("notes", []), *run.problems]
    listed = joined(html("<li>{}</li>", text) for text in dict.fromkeys(warnings))
    return html(
        '{}<header id="done"><div class="in"><p class="eyebrow">crowdselect report</p>'
        '<h1>{:,} rows to train on</h1><p class="lead">{}</p>{}</div></header>',
        simulated if facts.get("simulated") else "",
        int(run.chosen.sum()),
        _paragraph(run),
        html('<ul class="warnings">{}</ul>', listed) if listed else "",
    )


def _paragraph(run: Run) -> Markup:
    facts, options = run.facts, run.options
    n, eligible, chosen = len(run.ids), int(run.eligible.sum()), int(run.chosen.sum())
    filled = facts.get("filled", 1)
    gaps = "" if filled == 1 else f" ({filled:.1%} of the rewards are there)"
    method = method_of(options)
    weights = {name: w for name, w in (options.get("weights") or {}).items() if w}
    formula = " + ".join(f"{w:g} \u00d7 {name}" for name, w in weights.items())
    sentences = [
        html(
            "From <b>{:,}</b> instructions of <b>{}</b>, answered by <b>{}</b> models and scored in the column <b>{}</b>{}, "
            '<b class="hit">{:,}</b> of <b>{:,}</b> eligible rows were chosen{}.',
            n,
            pool_name(run),
            _count(facts["models"]),
            facts["reward"],
            gaps,
            chosen,
            eligible,
            "" if method == CROWD.name else html(" by the baseline <b>{}</b>", method),
        )
    ]
    if formula:
        sentences.append(
            html("A row's score is <b>{}</b>, each metric as the share of eligible rows below it.", formula)
        )
    sentences.append(_cluster_sentence(run))
    answer = options.get("answer", "best")
    who = "the best-rewarded answer" if answer == "best" else f"the answer by the rule {answer}"
    teachers = len({name for name in run.models[run.chosen] if name is not None})
    rewards = run.number("reward")[run.chosen]
    mean = (
        ""
        if np.isnan(rewards).all()
        else html(", with a mean reward of <b>{:.4g}</b>", float(np.nanmean(rewards)))
    )
    sentences.append(html("To be trained on is {}, from <b>{:,}</b> models{}.", who, teachers, mean))
    barred = {code: k for code, k in run.selection.counts().items() if code not in {"selected", "below_cut"}}
    if barred:
        listed = joined(
            (html("<b>{:,}</b> {}", k, code.replace("_", " ")) for code, k in barred.items()), ", "
        )
        sentences.append(html("Not taken for another reason than the score: {}.", listed))
    return joined(sentences, " ")


def _count(value: object) -> str:
    """A number as a manifest has it, which may hold anything."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cluster_sentence(run: Run) -> Markup:
    quotas = [int(quota) for quota in (run.facts.get("quotas") or {}).values()]
    if not quotas:
        return html("There were no clusters.")
    by = run.options.get("cluster_by")
    how = f"the column {by}" if by else f"k-means on the vectors of {run.facts.get('embedder')}"
    gave = f"{min(quotas):,}" if min(quotas) == max(quotas) else f"{min(quotas):,} to {max(quotas):,}"
    return html("<b>{:,}</b> clusters, by {}, gave <b>{}</b> each.", len(quotas), how, gave)


def done(run: Run) -> Markup:
    """The difference to chance, the reasons of all rows, the options."""
    counts = run.selection.counts()
    reasons = table(
        ["reason", "rows", "what it says"],
        [[html('<span class="id">{}</span>', code), f"{k:,}", REASONS[code]] for code, k in counts.items()],
        numbers=[1],
    )
    options = joined(
        html("<dt>{}</dt><dd>{}</dd>", name, _plain(value))
        for name, value in [
            ("pool", run.facts.get("pool")),
            ("fingerprint", run.facts.get("fingerprint")),
            *run.options.items(),
        ]
        if value is not None
    )
    return html(
        '{}<details class="more"><summary>Every instruction of the pool, by reason</summary>{}</details>'
        '<details class="more"><summary>All options</summary><dl class="pair">{}</dl></details>',
        _against_chance(run),
        reasons,
        options,
    )


def _against_chance(run: Run) -> Markup:
    controls = random_control(run.selection)
    rows = []
    for name, c in controls.items():
        apart = (c.chosen - c.random) / c.spread if c.spread > 0 else None
        mark = "\u2013" if apart is None else f"{apart:+.1f}"
        rows.append(
            [
                "reward of the answer" if name == "reward" else name,
                f"{c.chosen:.4g}",
                f"{c.random:.4g} ± {c.spread:.2g}",
                mark if apart is None or abs(apart) <= 2 else html("<b>{}</b>", mark),
            ]
        )
    if not rows:
        return Markup()
    return html(
        '<section><h2>Against chance</h2><p class="note">Means over the chosen rows, and over 200 random choices with the same '
        "quotas. Up to two spreads apart is what chance does; whether a difference helps training is another question.</p>{}</section>",
        table(["mean of", "chosen", "random ± spread", "spreads apart"], rows, numbers=[1, 2, 3]),
    )


def pool_name(run: Run) -> str:
    """The pool's file name, for titles."""
    return Path(str(run.facts.get("pool", "the pool"))).name


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
