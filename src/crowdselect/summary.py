"""What the commands print for a person: a selection, a pool, a crowd, one row's story."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crowdselect.controls import random_control
from crowdselect.pool import Pool
from crowdselect.selection import Selection
from crowdselect.show import lines, say, table, visible, warn

_HEADINGS = {
    "difficulty": ("harder than", "easier than"),
    "separability": ("differs more", "differs less"),
    "stability": ("size helps more", "size helps less"),
}
_PICKS = 8
_CELL = 44


def print_selection(selection: Selection, pool: Pool, *, folder: Path | None, train_rows: bool) -> None:
    """Say what was done: pool, crowd, choice, first picks with reasons, and the difference to chance."""
    facts, options = selection.facts, selection.options
    if facts["simulated"]:
        say("SIMULATED POOL: no real model or reward is behind these numbers.\n")
    gaps = "" if facts["filled"] == 1 else f", {facts['filled']:.1%} of the rewards there"
    lines(
        {
            "pool": f"{facts['instructions']} instructions x {facts['models']} models{gaps} ({facts['layout']} layout)",
            "crowd": crowd_line(facts["crowd"]),
            "reward": facts["reward"],
            "score": " + ".join(f"{w:g} x {name}" for name, w in options["weights"].items() if w),
            "clusters": _cluster_line(facts, options),
            "embedder": facts["embedder"],
            "chosen": f"{options['budget']} of {_eligible(selection)} eligible",
        }
    )
    left_out = {
        reason: n for reason, n in selection.counts().items() if reason not in {"selected", "below_cut"}
    }
    if left_out:
        say("not taken: " + ", ".join(f"{n} {reason}" for reason, n in left_out.items()))
    say()
    _print_picks(selection, pool)
    _print_control(selection)
    for note in facts["notes"]:
        warn(note)
    for warning in selection.warnings:
        warn(warning)
    if folder is not None:
        what = f"train file with {options['budget']} rows, " if train_rows else ""
        say(
            f"written to {visible(folder)}: {what}selection.parquet with every row's reason, README.md, manifest.json"
        )
        say(f"why a row is in or out: crowdselect why {visible(folder)} {visible(selection.chosen[0])}")


def crowd_line(members: Sequence[Mapping[str, Any]]) -> str:
    """Sum up a crowd: its families that show an order, with their sizes; and the rest."""
    sizes: dict[str, list[float]] = {}
    for member in members:
        if member["family"] is not None and member["size_b"] is not None:
            sizes.setdefault(member["family"], []).append(member["size_b"])
    ordered = {family: sorted(set(found)) for family, found in sorted(sizes.items()) if len(set(found)) > 1}
    shown = [
        f"{family} {'/'.join(f'{size:g}' for size in found)}B" for family, found in list(ordered.items())[:6]
    ]
    more = f", and {len(ordered) - 6} families more" if len(ordered) > 6 else ""
    alone = len(members) - sum(len(sizes[family]) for family in ordered)
    rest = f"; {alone} models without a family of two sizes" if alone else ""
    return (
        f"{len(ordered)} families of two sizes or more: {', '.join(shown)}{more}{rest}"
        if ordered
        else f"no family of two sizes among {len(members)} models"
    )


def print_inspection(found: Mapping[str, Any]) -> None:
    """Describe a pool."""
    if found["simulated"]:
        say("SIMULATED POOL\n")
    lines(
        {
            "pool": found["pool"],
            "layout": found["layout"],
            "instructions": f"{found['instructions']} ({found['without_text']} without text, {found['duplicates']} repeat another)",
            "models": found["models"],
            "crowd": crowd_line(found["crowd"]),
            "columns": ", ".join(found["columns"]),
            "empty answers": found["empty_answers"],
        }
    )
    say()
    table(
        ["reward", ">filled", ">lowest", ">mean", ">highest", ">no reward", ">one only", ">complete"],
        [
            [
                name,
                f"{r['filled']:.1%}",
                _number(r["lowest"]),
                _number(r["mean"]),
                _number(r["highest"]),
                r["without_reward"],
                r["with_one_reward"],
                r["complete"],
            ]
            for name, r in found["rewards"].items()
        ],
        title="Reward columns (instructions with no reward, with one only, with all)",
    )
    print_crowd(found["crowd"], rewards=list(found["rewards"]))
    if len(found["reward_columns"]) > 1:
        say("several reward columns: name one with --reward where a command needs one")
    for note in found["notes"]:
        warn(note)


def print_crowd(members: Sequence[Mapping[str, Any]], *, rewards: list[str] | None = None) -> None:
    """List the models with family and size, and what their rewards look like."""
    shown = [*members]
    first = rewards[0] if rewards else None
    if first is not None:
        shown.sort(
            key=lambda m: -(m["mean_reward"][first] if m["mean_reward"][first] is not None else float("-inf"))
        )
    columns = [f">{name}" for name in rewards or []]
    table(
        ["model", "family", ">size (B)", "known from", *([">coverage"] if rewards else []), *columns],
        [
            [
                m["name"],
                m["family"],
                None if m["size_b"] is None else f"{m['size_b']:g}",
                m["source"],
                *([f"{m['coverage'][first]:.1%}"] if first is not None else []),
                *(_number(m["mean_reward"][name]) for name in rewards or []),
            ]
            for m in shown
        ],
        title="Models" + (", by mean reward" if rewards else ""),
    )


def print_story(story: Mapping[str, Any], *, instruction: str | None, answer: str | None) -> None:
    """Tell one row's story, with its text where the pool is at hand."""
    say(f"instruction {visible(story['id'])}")
    if instruction is not None:
        say(f"  {visible(instruction, width=400)}")
    if answer is not None:
        say(f"answer of {visible(story['model'])}")
        say(f"  {visible(answer, width=400)}")
    for line in story["story"]:
        say(f"- {visible(line)}")


def _print_picks(selection: Selection, pool: Pool) -> None:
    picks = selection.rows()[:_PICKS]
    texts = dict.fromkeys((row["id"] for row in picks), "")
    if pool.has_text:
        known = dict(zip(pool.ids, pool.instructions(), strict=True))
        texts = {i: visible(known[i] or "", width=_CELL) for i in texts}
    weights = {name: weight for name, weight in selection.options["weights"].items() if weight}
    table(
        [
            ">rank",
            "instruction",
            ">cluster",
            *(f">{_HEADINGS[n][w < 0]}" for n, w in weights.items()),
            "answer by",
            ">reward",
        ],
        [
            [
                row["rank"],
                texts[row["id"]] or row["id"],
                row["cluster"],
                *(_share(row[f"{name}_rank"], weight) for name, weight in weights.items()),
                visible(row["model"], width=28) if row["model"] else None,
                _number(row["reward"]),
            ]
            for row in picks
        ],
        title=f"First {len(picks)} of {selection.options['budget']}, and why: each stands above this share of the eligible",
    )


def _share(rank: float | None, weight: float) -> str | None:
    return None if rank is None else f"{rank if weight > 0 else 1 - rank:.0%}"


def _print_control(selection: Selection) -> None:
    controls = random_control(selection)
    table(
        ["mean of", ">chosen", ">random", ">spread", ">apart"],
        [
            [
                "reward of the answer" if name == "reward" else name,
                f"{c.chosen:.4g}",
                f"{c.random:.4g}",
                f"{c.spread:.2g}",
                f"{(c.chosen - c.random) / c.spread:+.1f} spreads" if c.spread > 0 else None,
            ]
            for name, c in controls.items()
        ],
        title="Against random choices with the same quotas (200 draws; up to two spreads apart is chance)",
    )


def _cluster_line(facts: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    if not facts["quotas"]:
        return "none"
    quotas = list(facts["quotas"].values())
    how = f"column {options['cluster_by']}" if options["cluster_by"] else "k-means"
    return f"{len(quotas)} by {how}, {min(quotas)} to {max(quotas)} chosen from each"


def _eligible(selection: Selection) -> int:
    table_ = selection.table
    return int(len(table_) - table_["score"].null_count)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
