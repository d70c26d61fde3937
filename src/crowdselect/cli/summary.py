"""What the commands print for a person: a selection, a pool, a crowd, one row's story."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crowdselect.manifests import own_files
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.selection import Selection, answer_by, random_control, score_line
from crowdselect.selection.student import already_line, bin_names
from crowdselect.selection.texts import Chosen
from crowdselect.terminal import counted, fitted, lines, remark, say, show, shown_path, table, visible, warn

_PICKS = 8
_LISTED = 50  # rows of one reason
_STRATA = 20  # rows of the table of quotas
_LONGEST = 2000  # characters of an instruction that a table may be asked to show
_SHORT = {"difficulty": "diff", "separability": "sep", "stability": "stab"}
"""Headings of metrics for a narrow terminal."""


def print_selection(selection: Selection, pool: Chosen, *, folder: Path | None) -> None:
    """Say what was done: pool, crowd, choice, first picks with reasons, and the difference to chance.

    Args:
        selection: What was chosen from `pool`.
        pool: The pool, for the texts of the first picks.
        folder: Where it was written; None for a dry run.
    """
    facts, options = selection.facts, selection.options
    if facts["simulated"]:
        say("SIMULATED POOL: no real model or reward is behind these numbers.\n")
    gaps = "" if facts["filled"] == 1 else f", {facts['filled']:.1%} of rewards present"
    size = f"{counted(facts['instructions'], 'instruction')} x {counted(facts['models'], 'model')}"
    lines(
        {
            "pool": f"{size}{gaps} ({facts['layout']} layout)",
            "read as": facts.get("read_as"),
            "crowd": crowd_line(facts["crowd"]),
            "reward": facts["reward"],
            "score": score_line(options),
            "answers": _fit_line(facts.get("fits"), chosen=options["budget"]),
            **_student_lines(facts),
            "clusters": _cluster_line(facts, options),
            "embedder": facts["embedder"],
            "chosen": f"{options['budget']:,} of {_eligible(selection):,} eligible",
        }
    )
    left_out = {
        reason: n for reason, n in selection.counts().items() if reason not in {"selected", "below_cut"}
    }
    if left_out:
        say("excluded: " + ", ".join(f"{n:,} {reason}" for reason, n in left_out.items()))
    say()
    _print_picks(selection, pool)
    _print_quota(facts.get("quota"))
    _print_reach(facts, budget=options["budget"])
    _print_control(selection)
    _print_agreement(facts.get("agreement"))
    for note in facts["notes"]:
        remark(note)
    for warning in selection.warnings:
        warn(warning)
    if folder is None:
        say("nothing was written (a dry run)")
        return
    written = sorted(own_files(folder))
    trains = any(name.startswith("train.") for name in written)
    several = facts.get("answers", {}).get("all")
    answers = "" if several is None else f", {counted(several, 'answer')}"
    rows = f"{counted(options['budget'], 'row')}{answers} to train on; " if trains else ""
    names = ", ".join(written)
    say(f"written to {shown_path(folder)}: {rows}{visible(names)}")


def _fit_line(found: Mapping[str, Any] | None, *, chosen: int) -> str | None:
    """Say what taking the answers that fit changed; None where they were taken otherwise."""
    if found is None:
        return None
    other = (
        f"{found['other_than_best']:,} of {counted(chosen, 'row')} take another answer than the best-rewarded"
    )
    if found["fit"] is None:
        return f"no fit to {visible(found['model'])} is known"
    was = "-" if found["fit_of_best"] is None else f"{found['fit_of_best']:.3g}"
    return (
        f"those that fit {visible(found['model'])}: mean log-likelihood per token {found['fit']:.3g} (of the best-rewarded {was}), "
        f"mean reward {found['reward']:.4g} (best {found['reward_of_best']:.4g}); {other}"
    )


def crowd_line(members: Sequence[Mapping[str, Any]]) -> str:
    """Sum up a crowd: its families that show an order, with their sizes; and the rest."""
    sizes: dict[str, list[float]] = {}
    for member in members:
        if member["family"] is not None and member["size_b"] is not None and member.get("rewards") != 0:
            sizes.setdefault(member["family"], []).append(member["size_b"])
    ordered = {family: sorted(set(found)) for family, found in sorted(sizes.items()) if len(set(found)) > 1}
    shown = [
        f"{family} {'/'.join(f'{size:g}' for size in found)}B" for family, found in list(ordered.items())[:6]
    ]
    more = f", and {len(ordered) - 6} more" if len(ordered) > 6 else ""
    alone = len(members) - sum(len(sizes[family]) for family in ordered)
    rest = f"; {alone} of {counted(len(members), 'model')} in no such family" if alone else ""
    if not ordered:
        return f"no family of two sizes among {counted(len(members), 'model')}"
    return (
        f"{counted(len(ordered), 'family', 'families')} of two or more sizes: {', '.join(shown)}{more}{rest}"
    )


def print_inspection(found: Mapping[str, Any]) -> None:
    """Describe a pool."""
    if found["simulated"]:
        say("SIMULATED POOL: no real model or reward is behind these numbers.\n")
    empty, wrong = found["empty_answers"], found["malformed_instructions"]
    lines(
        {
            "pool": shown_path(found["pool"]),
            "layout": found["layout"],
            "read as": found["read_as"],
            "instructions": f"{found['instructions']:,} ({f'{wrong:,} malformed, ' if wrong else ''}"
            f"{found['without_text']:,} without text, {found['duplicates']:,} "
            f"{'repeats' if found['duplicates'] == 1 else 'repeat'} another)",
            "models": f"{found['models']:,}",
            "student": ", ".join(_student(one, found["rewards"]) for one in found["students"]) or None,
            "crowd": crowd_line(found["crowd"]),
            "columns": ", ".join(found["columns"]),
            "numbers": ", ".join(found["numbers"]),
            "empty answers": f"{empty:,} with a reward but no text" if empty else None,
        }
    )
    say()
    rewards = found["rewards"]
    if rewards:
        _print_rewards(rewards)
    elif found["reward_as_text"]:
        say(
            "No reward column yet: the warning below says which may hold scores, and what it holds instead of numbers. "
            "If it is no reward, score the answers, or name a second file of rewards with `rewards`.\n"
        )
    else:
        first = (
            "No reward column, and no texts of answers that could be scored. Name the column of the answers with "
            "`columns='response=COLUMN'`, or a second file of rewards with `rewards`."
            if empty is None
            else "No reward column. Score the answers, or name a second file of rewards with `rewards`."
        )
        say(
            f"{first} If a column should be a reward, name it with `reward` to see which of its values is not a number.\n"
        )
    for name, reward in rewards.items():
        if reward["good"] is not None:
            good = reward["good"]
            say(f"{visible(name)} is good above {good['above']:.4g} ({good['share']:.1%} of rewards).")
    say()
    if found["length_bias"]:
        table(
            ["reward", ">with length", ">within instructions"],
            [
                [name, _number(bias["overall"]), _number(bias["within"])]
                for name, bias in found["length_bias"].items()
            ],
            title="Rank correlation of reward and answer length (1: longer answers score higher)",
        )
    usual = found["usual_reward"]
    print_crowd(found["crowd"], reward=usual if usual in rewards else next(iter(rewards), None))
    if len(found["reward_columns"]) > 1 and len(rewards) != 1:  # one that is named is alone
        named = (
            "pick one with `reward`"
            if usual is None
            else f"{visible(usual)} is used unless `reward` names another"
        )
        say(f"Several reward columns: {named}.")
    for note in found["notes"]:
        remark(note)
    for warning in found["warnings"]:
        warn(warning)


def _student(one: Mapping[str, Any], rewards: Iterable[str]) -> str:
    """A student with its mean rewards; it is listed apart from the crowd."""
    means = (f"{name} {_number(one['mean_reward'][name]) or 'missing'} on average" for name in rewards)
    return " ".join([one["name"], *(f"({told})" for told in [", ".join(means)] if told)])


def _print_rewards(rewards: Mapping[str, Mapping[str, Any]]) -> None:
    table(
        ["reward", ">filled", ">lowest", ">mean", ">highest", ">none", ">one", ">all"],
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
            for name, r in rewards.items()
        ],
        title="Reward columns; none, one, all: instructions with so many rewards",
    )


def print_crowd(members: Sequence[Mapping[str, Any]], *, reward: str | None = None) -> None:
    """List the models with family and size, and with a reward their coverage and mean, the highest first."""
    shown = [*members]
    cut = any(m.get("endings") for m in members)
    if reward is not None:
        unknown = float("-inf")
        shown.sort(key=lambda m: -(unknown if m["mean_reward"][reward] is None else m["mean_reward"][reward]))
    table(
        [
            "model",
            "family",
            ">size (B)",
            "known from",
            *([] if reward is None else [">coverage", ">mean"]),
            *([">unfinished"] if cut else []),
        ],
        [
            [
                m["name"],
                m["family"],
                None if m["size_b"] is None else f"{m['size_b']:g}",
                m["source"],
                *(
                    []
                    if reward is None
                    else [f"{m['coverage'][reward]:.1%}", _number(m["mean_reward"][reward])]
                ),
                *([_unfinished(m["endings"])] if cut else []),
            ]
            for m in shown
        ],
        title="Models"
        if reward is None
        else f"Models, by their mean {visible(reward)} over what they answered",
        short={"coverage": "filled"},
        optional=[] if reward is None else ["known from", "coverage", "family"],
    )


def _unfinished(endings: Mapping[str, int]) -> str:
    """The share of a model's answers that were cut, filtered or broken off, and of which kind most were."""
    every = sum(endings.values())
    odd = {kind: count for kind, count in endings.items() if kind != "finished"}
    if not every or not odd:
        return "0%"
    return f"{sum(odd.values()) / every:.1%} ({max(odd, key=lambda kind: odd[kind])})"


def print_story(
    story: Mapping[str, Any],
    *,
    instruction: str | None,
    answer: str | None,
    shared: str | None = None,
    empty: str | None = None,
) -> None:
    """Tell one row's story, with its text where the pool is at hand.

    Args:
        story: From `Selection.explain`.
        instruction: Its text.
        answer: The text of the answer to train on.
        shared: What it shares with a benchmark.
        empty: Which of its rewards are of answers without a text.
    """
    say(f"instruction {visible(story['id'])}")
    if instruction is not None:
        show(fitted(f"  {visible(instruction, width=400)}", hang=2))
    if answer is not None:
        say(f"answer of {visible(answer_by(story))}")
        show(fitted(f"  {visible(answer, width=400)}", hang=2))
    for line in story["story"]:
        say(f"- {visible(line)}", hang=2)
    if empty is not None:
        say(f"- {visible(empty)}", hang=2)
    if shared is not None:
        say(f"- shared with the benchmark question: {visible(shared, width=400)}", hang=2)


def print_left_out(reason: str, found: Sequence[Mapping[str, str | None]]) -> None:
    """List the rows of one reason, each with the row that the reason refers to.

    Args:
        reason: As it was typed.
        found: Per row `id`, `other`, and their texts as `instruction` and `other_instruction`.
    """
    others, texts = any(row["other"] for row in found), any(row["other_instruction"] for row in found)
    heads = {"id": "id", "instruction": "instruction"}
    heads |= {"other": "refers to"} if others else {}
    heads |= {"other_instruction": "its instruction"} if texts else {}
    table(
        list(heads.values()),
        [
            [None if row[name] is None else visible(row[name], width=_LONGEST) for name in heads]
            for row in found[:_LISTED]
        ],
        title=f"{counted(len(found), 'row')}: {visible(reason)}, {REASONS[reason.partition(':')[0]]}",
        one_line=True,
        optional=["its instruction"],
    )
    if len(found) > _LISTED:
        say(f"{len(found) - _LISTED:,} more are in the output of `as_json`")


def _print_picks(selection: Selection, pool: Chosen) -> None:
    picks = selection.rows()[:_PICKS]
    texts = dict.fromkeys((row["id"] for row in picks), "")
    if pool.has_text:
        found = zip(texts, pool.texts_of(list(texts)), strict=True)
        texts = {i: visible(text or "", width=_LONGEST) for i, text in found}
    weights = {name: weight for name, weight in selection.options["weights"].items() if weight}
    # Of rows that examples take the score is the turn alone.
    score = "similarity" if picks and "similarity" in picks[0] else "score"
    table(
        [
            ">rank",
            "instruction",
            ">cluster",
            *([] if weights else [f">{score}"]),
            *(f">{name}" for name in weights),
            "answer by",
            ">reward",
        ],
        [
            [
                row["rank"],
                texts[row["id"]] or row["id"],
                row["cluster"],
                *([] if weights else [_number(row[score])]),
                *(_rank(row[f"{name}_rank"]) for name in weights),
                answer_by(row),
                _number(row["reward"]),
            ]
            for row in picks
        ],
        title=f"First {len(picks)} of {selection.options['budget']:,}"
        + (", with ranks among eligible rows from 0 (lowest) to 1 (highest)" if weights else "")
        + (
            ", with the similarity to the example that took each row, 1 at most"
            if score == "similarity"
            else ""
        ),
        one_line=True,
        short=_SHORT,
        optional=["cluster", "answer by", "rank"],
    )


def _student_lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """Who the student is and what counts as good; nothing where that plays no part."""
    found, good, student = {}, facts.get("good"), facts.get("student")
    if student is not None:
        column = None if student["column"] is None else f"the column {student['column']}"
        found["student"] = " of ".join(part for part in (student["name"], student["answers"], column) if part)
    if good is not None and good["above"] is not None:
        found["good"] = f"answers with a reward above {good['above']:.6g}, {good['share']:.1%} of all"
    return found


def _print_reach(facts: Mapping[str, Any], *, budget: int) -> None:
    """Print what the crowd can and the student cannot, the easiest rows first; nothing without a student."""
    line, student = already_line(facts, budget), facts.get("student")
    if line is None or student is None:
        return
    shown = student["table"]
    names = bin_names(shown["edges"])
    table(
        ["crowd / student", *(f">{name}" for name in names)],
        [
            [name, *(f"{_brief(c)}/{_brief(p)}" if p else None for c, p in zip(chosen, pool, strict=True))]
            for name, chosen, pool in reversed([*zip(names, shown["chosen"], shown["pool"], strict=True)])
        ],
        title="What the crowd can and the student cannot: chosen/all rows, by the share of good answers of the crowd (down) and "
        "of the student (across)",
        short={"crowd / student": "crowd"},
    )
    say(f"{line[0].upper()}{line[1:]}.")


def _brief(count: int) -> str:
    """A count in at most five characters, up to ten millions."""
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def _print_agreement(found: Mapping[str, Any] | None) -> None:
    if found is None:
        return
    table(
        ["rewards", ">rank correlation", ">within instructions"],
        [
            [" and ".join(pair["rewards"]), _number(pair["overall"]), _number(pair["within"])]
            for pair in found["pairs"]
        ],
        title="How far the rewards agree (1: the same order)",
    )
    least = ", ".join(f"{visible(row['id'])} ({row['agreement']:.2f})" for row in found["least"][:5])
    say(f"they agree least on: {least}")


def _rank(rank: float | None) -> str | None:
    return None if rank is None else f"{rank:.2f}"


def _print_control(selection: Selection) -> None:
    controls = random_control(selection)
    weighted = {name for name, weight in selection.options["weights"].items() if weight}
    table(
        ["mean", ">chosen", ">random", ">SD", ">difference"],
        [
            [
                "reward of the answer" if name == "reward" else name + " (weighted)" * (name in weighted),
                f"{c.chosen:.4g}",
                f"{c.random:.4g}",
                spread(c.spread),
                f"{(c.chosen - c.random) / c.spread:+.1f} SD" if c.spread > 0 else None,
            ]
            for name, c in controls.items()
        ],
        title="Compared with 200 random selections using the same quotas (differences under 2 SD may be chance; "
        "weighted metrics differ by design)",
    )


def spread(value: float) -> str:
    """Write a standard deviation in two digits, or all that stand before the point.

    Example:
        >>> spread(0.0312), spread(148.2)
        ('0.031', '148')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _print_quota(quota: Mapping[str, Any] | None) -> None:
    """Print what each stratum was to have and got, the largest quotas first; nothing without a quota."""
    if quota is None:
        return
    strata = sorted(quota["strata"], key=lambda one: (-one["asked"], one["name"]))
    more = f"; the {_STRATA} largest of {len(strata):,}" if len(strata) > _STRATA else ""
    table(
        [quota["column"], ">eligible", ">asked", ">chosen"],
        [[one["name"], one["eligible"], one["asked"], one["got"]] for one in strata[:_STRATA]],
        title=f"Rows by {quota['column']}{more}",
    )


def _cluster_line(facts: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
    if not facts["quotas"]:
        return "none"
    quotas = list(facts["quotas"].values())
    how = f"column {options['cluster_by']}" if options["cluster_by"] else "k-means"
    each = f"{min(quotas):,}" if min(quotas) == max(quotas) else f"{min(quotas):,} to {max(quotas):,}"
    return f"{len(quotas):,} by {how}, {each} chosen from each"


def _eligible(selection: Selection) -> int:
    return int(selection.eligible.sum())


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
