"""What a person sees of an evaluation, and of a comparison of several."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from crowdselect.ask.display import announce, print_plan
from crowdselect.evaluate.comparison import Difference, MethodComparison
from crowdselect.evaluate.harness import HarnessPlan
from crowdselect.evaluate.held_out import BANDS, HeldOut
from crowdselect.evaluate.job import Announcement, Evaluation, EvaluationPlan
from crowdselect.evaluate.measures import MEASURES
from crowdselect.evaluate.result import Measured
from crowdselect.hubaccess import first_fetched
from crowdselect.terminal import counted, note, print_json, say, shown_path, table, visible, warn

_FOREST = 41  # characters of a row of the forest
_NAMES = 36  # most terminal cells of the names beside it
_MOST, _USUAL = (
    4,
    3,
)  # decimals of a comparison, and those where no number of them makes all differences agree
_SAME = 1e-9  # the difference of two scores, up to rounding


def show_plan(plan: EvaluationPlan, *, as_json: bool) -> None:
    """Print what would be sent; what is not known is said to be."""
    if as_json:
        print_json(
            {"plan": {name: made.facts() for name, made in plan.estimates.items()}, "notes": plan.notes}
        )
        return
    print_plan(plan.estimates, plan.notes)
    say("answers still to come are counted at their token limit, also in what the judge reads")


def announce_all(announcements: Sequence[Announcement]) -> None:
    """Say where requests will go, before the first is sent."""
    for one in announcements:
        announce([one.endpoint], one.with_retries)
        if one.with_retries > one.requests:
            note(f"   {one.requests:,} if every verdict can be read; unreadable ones are asked for again")


def show_interrupted(evaluation: Evaluation) -> None:
    """Say how to go on after Ctrl-C."""
    note(f"stopped: every reply received is in {shown_path(evaluation.options.ledger_path)}")
    note("run the same command again to go on")


def show_result(evaluation: Evaluation, *, reported: Container[str], as_json: bool) -> None:
    """Print a result with its interval, its parts, what is missing, and what the judge's verdicts say of it.

    Args:
        evaluation: The result.
        reported: Endpoints of which a line has said why they stopped.
        as_json: Print JSON.
    """
    for name, why in evaluation.stopped.items():
        if name not in reported:
            note(f"{visible(name)}: stopped: {visible(why)}")
    found = evaluation.result
    if as_json:
        place = {"written": str(evaluation.options.folder), "was_there": evaluation.was_there}
        print_json({**place, **found, "stopped": evaluation.stopped})
        return
    title = MEASURES[found["benchmark"]].title
    beside = f" against {found['baseline']}" if found["baseline"] is not None else ""
    say(visible(f"{title}: {found['model']}{beside}, judged by {found['judge']}"))
    rows = [["all", *_cells(found)]]
    rows += [[f"turn {turn}", *_cells(part)] for turn, part in found.get("turns", {}).items()]
    named = found["categories"]
    rows += [[name or "-", *_cells(part)] for name, part in named.items()] if len(named) > 1 else []
    table(["", ">questions", f">score ({found['unit']})", ">95% interval"], rows)
    for line in _facts(found):
        say(line)
    for line in found["notes"]:
        warn(line)
    missing = found["verdicts"]
    if missing["missing"]:
        lost = missing["missing"]
        verb = "is" if lost == 1 else "are"
        warn(f"{lost:,} of {counted(missing['wanted'], 'verdict')} {verb} missing and left out of the score:")
        table([">missing", "why"], [[n, visible(why, width=300)] for why, n in missing["reasons"].items()])
    folder = shown_path(evaluation.options.folder)
    say(f"{'up to date:' if evaluation.was_there else 'written to'} {folder}")


def show_measured(measured: Measured, *, as_json: bool) -> None:
    """Print a number of a model with its interval, by band of difficulty, and what is missing."""
    found = measured.result
    if as_json:
        print_json({"written": str(measured.folder), "was_there": measured.was_there, **found})
        return
    say(visible(f"{MEASURES[found['benchmark']].title}: {found['model']} (score: {found['unit']})"))
    named = {name: part for name, part in found["categories"].items() if name}
    rows = [["all", *_cells(found)], *([name, *_cells(part)] for name, part in named.items())]
    table(["", f">{found['resampling']['of']}", ">score", ">95% interval"], rows)
    for line in found["notes"]:
        note(visible(line))
    rows, noun = found["rows"], found["resampling"]["of"].removesuffix("s")
    _print_missing(rows["reasons"], rows["wanted"], noun)
    say(f"{'up to date:' if measured.was_there else 'written to'} {shown_path(measured.folder)}")


def show_rows(found: HeldOut, *, notes: Sequence[str], as_json: bool) -> None:
    """Print what a model would be measured on, and notes of the model."""
    bands = Counter(row.category for row in found.rows if row.category)
    pairs = sum(row.other is not None for row in found.rows)
    if as_json:
        facts = {
            "rows": len(found.rows),
            "pairs": pairs,
            "bands": dict(bands),
            "notes": [*found.notes, *notes],
        }
        print_json(facts)
        return
    listed = ", ".join(f"{bands[band]:,} {band}" for band in BANDS if bands[band])
    what = f"{counted(pairs, 'pair')} of answers" if pairs else counted(len(found.rows), "answer")
    say(f"a model would be measured on {what}{f' ({listed})' if listed else ''}; nothing was computed")
    for line in (*found.notes, *notes):
        note(visible(line))


def show_harness_plan(plan: HarnessPlan, *, as_json: bool) -> None:
    """Print what the harness would run, and what is downloaded first."""
    if as_json:
        print_json(asdict(plan))
        return
    say(f"the harness would measure {visible(plan.model)} on:")
    table(
        ["task", ">documents", ">requests", "asks for"],
        [[one.task, one.documents, one.requests, _ASKS.get(str(one.asks), one.asks)] for one in plan.tasks],
    )
    if plan.downloads:
        say(f"downloaded first: {visible(', '.join(plan.downloads))}")
    say("nothing was run or downloaded")
    if plan.unasked is not None:
        note(f"{visible(plan.downloads[0])}: {first_fetched(plan.unasked)}")


_ASKS = {"generate_until": "a text", "multiple_choice": "likelihoods", "loglikelihood": "likelihoods"}
_ASKS |= {"loglikelihood_rolling": "likelihoods", "None": "-"}


def _print_missing(reasons: Mapping[str, int], wanted: int, noun: str) -> None:
    if reasons:
        lost = sum(reasons.values())
        warn(f"{lost:,} of {counted(wanted, noun)} {'has' if lost == 1 else 'have'} no number:")
        table([">missing", "why"], [[n, visible(why, width=300)] for why, n in reasons.items()])


def figure(value: float | None, decimals: int | None = None) -> str:
    """Write a score.

    Example:
        >>> figure(6.25), figure(81.34), figure(None), figure(6.25, 3)
        ('6.25', '81.3', '-', '6.250')
    """
    if value is None:
        return "-"
    return f"{value:.{_decimals(value) if decimals is None else decimals}f}"


def _decimals(value: float) -> int:
    return 2 if abs(value) <= 10 else 1


def span(ends: Sequence[float | None] | None, decimals: int | None = None) -> str:
    """Write an interval of scores.

    Example:
        >>> span((6.25, 81.34)), span(None)
        ('6.25 to 81.3', '-')
    """
    return "-" if ends is None else f"{figure(ends[0], decimals)} to {figure(ends[1], decimals)}"


def common_decimals(found: MethodComparison) -> int:
    """Find the fewest decimals with which every difference shown is that of the two scores shown, and none looks like 0.

    Differences over other questions than the scores cannot agree with them, and do not count. Where four decimals are too
    few, as may be among many methods, it is three.

    Example:
        >>> from crowdselect.evaluate.comparison import MethodScore
        >>> scores = [MethodScore(name, 1, 9, score, None, None, None) for name, score in (("a", 6.2251), ("b", 6.2249))]
        >>> different = Difference("a", "b", 9, 1, 0, 6.2251 - 6.2249, None, None)
        >>> common_decimals(MethodComparison("mt-bench", "j", None, "1 to 10", 0, scores, [different]))
        4
    """
    scores = {one.name: one.score for one in found.standings if one.score is not None}
    known = [
        (scores[one.one], scores[one.other], one.difference)
        for one in found.differences
        if one.difference is not None
        and one.one in scores
        and one.other in scores
        and abs(scores[one.one] - scores[one.other] - one.difference) < _SAME
    ]

    def agree(decimals: int) -> bool:
        return all(
            round(round(one, decimals) - round(other, decimals), decimals) == round(difference, decimals)
            and (round(difference, decimals) != 0 or abs(difference) < _SAME)
            for one, other, difference in known
        )

    least = min(map(_decimals, scores.values()), default=2)
    return next(filter(agree, range(least, _MOST + 1)), _USUAL)


def p_value(value: float | None) -> str:
    """Write a p-value.

    Example:
        >>> p_value(0.01234), p_value(None)
        ('0.0123', '-')
    """
    return "-" if value is None else f"{value:.4f}"


def _cells(part: Mapping[str, Any]) -> list[object]:
    return [part["questions_scored"], figure(part["score"]), span(part["interval"])]


def _facts(found: Mapping[str, Any]) -> list[str]:
    lines = _strength_lines(found)
    if not lines:  # several baselines
        for name, part in found["categories"].items():
            against = f"{visible(name)} against {visible(str(part.get('baseline')))}: "
            lines += [against + line for line in _strength_lines(part)]
    for name, who in (("lengths", found["model"]), ("baseline_lengths", found["baseline"])):
        lengths = found.get(name)
        if lengths is not None and lengths["answers"]:
            tokens = "" if lengths["mean_tokens"] is None else f", {lengths['mean_tokens']:.0f} tokens"
            lines.append(
                f"mean answer of {visible(who)}: {lengths['mean_characters']:.0f} characters{tokens}"
            )
    return [*lines, *_check_lines(found["self_check"])]


def _strength_lines(found: Mapping[str, Any]) -> list[str]:
    """Write the score against one baseline in the other ways that it is published."""
    lines = []
    drawn, styled = found.get("as_arena_hard_auto"), found.get("style_control")
    if drawn is not None:
        lines.append(f"as arena-hard-auto prints it: {_published(drawn)}; the baseline: 50")
        fitted = found["bradley_terry"]
        strength = (
            fitted["why"] if fitted["elo"] is None else f"{fitted['elo']:.0f} points (the baseline: 1000)"
        )
        lines.append(f"Bradley-Terry: {strength}")
    if styled is not None and styled["score"] is not None:
        lines.append(f"with style control: {_published(styled)}; at equal style {styled['equal_style']:.1f}")
    return lines


def _published(drawn: Mapping[str, float]) -> str:
    less, more = drawn["score"] - drawn["low"], drawn["high"] - drawn["score"]
    return f"{drawn['score']:.1f} (-{less:.1f}, +{more:.1f})"


def _check_lines(check: Mapping[str, Any]) -> list[str]:
    position, length = check["position"], check["length"]
    lines = [f"judge and order: {position['why']}"] if "why" in position else []
    if position.get("pairs"):
        lines.append(
            f"judge and order: if the order changes, {position['flipped']:.0%} of {counted(position['pairs'], 'pair')} get the "
            f"opposite winner and {position['changed']:.0%} not the same one; the answer shown first gets "
            f"{position['first_wins']:.0%} of the wins"
        )
    if length["spearman"] is not None:
        lines.append(
            f"judge and length: rank correlation {length['spearman']:+.2f} of verdict and length "
            f"({counted(length['pairs'], 'verdict')})"
        )
    return lines


def print_comparison(found: MethodComparison) -> None:
    """Print scores, differences and a forest of intervals as text."""
    beside = "" if found.baseline is None else f" against {found.baseline}"
    by = "" if found.judge is None else f", judged by {found.judge}"
    of = MEASURES[found.benchmark].of
    digits = common_decimals(found)
    say(visible(f"{MEASURES[found.benchmark].title}{beside}{by} (score: {found.unit})"))
    several = any(one.runs > 1 for one in found.standings)
    table(
        [
            "method",
            ">runs",
            f">{of}",
            ">score",
            ">95% interval",
            *([">lowest run", ">highest"] if several else []),
        ],
        [
            [
                one.name,
                one.runs if one.choices < 2 else f"{one.runs} of {one.choices} choices",
                one.questions,
                figure(one.score, digits),
                span(one.interval, digits),
                *(
                    figure(end, digits) if one.runs > 1 else None
                    for end in (one.lowest, one.highest) * several
                ),
            ]
            for one in found.standings
        ],
    )
    many = len(found.differences)
    table(
        [
            "difference",
            ">mean",
            ">95% interval",
            f">{of}",
            ">differing",
            ">p",
            *([">p (Holm)"] if many > 1 else []),
            "the first is",
        ],
        [
            [
                f"{one.one} - {one.other}",
                _signed(one.difference, digits),
                span(one.interval, digits),
                one.questions,
                one.differing,
                p_value(one.p),
                *([p_value(one.p_holm)] if many > 1 else []),
                one.verdict,
            ]
            for one in found.differences
        ],
        title=f"Differences, paired over {of}"
        + (f" (Holm: corrected for {many} comparisons)" if many > 1 else ""),
        optional=["differing", *(["p"] if many > 1 else []), of],
    )
    for line in forest_lines(found.differences):
        say(line)
    for line in found.notes:
        warn(line)


def forest_lines(differences: list[Difference]) -> list[str]:
    """Draw intervals as text: `|` is 0, `o` the difference.

    Example:
        >>> one = Difference("a", "b", 9, 5, 0, 1.0, (-1.0, 3.0), 0.3)
        >>> print(forest_lines([one])[0])
        a - b  ----------|---------o--------------------
    """
    from rich.text import Text

    known = [(one, one.difference, one.interval) for one in differences]
    drawn = [(one, value, ends) for one, value, ends in known if value is not None and ends is not None]
    if not drawn:
        return []
    low = min(0.0, *(ends[0] for _, _, ends in drawn))
    high = max(0.0, *(ends[1] for _, _, ends in drawn))
    span = (high - low) or 1.0
    names = [Text(visible(f"{one.one} - {one.other}")) for one, _, _ in drawn]
    width = min(max(name.cell_len for name in names), _NAMES)

    def at(value: float) -> int:
        return round((value - low) / span * (_FOREST - 1))

    lines = []
    for name, (_, value, ends) in zip(names, drawn, strict=True):
        cells = [" "] * _FOREST
        cells[at(ends[0]) : at(ends[1]) + 1] = "-" * (at(ends[1]) - at(ends[0]) + 1)
        cells[at(0.0)] = "|"
        cells[at(value)] = "o"
        name.truncate(width, overflow="ellipsis", pad=True)
        lines.append(f"{name.plain}  {''.join(cells)}")
    scale = f"{'':<{width}}  {figure(low):<{_FOREST // 2}}{figure(high):>{_FOREST - _FOREST // 2}}"
    return [*lines, scale, ""]


def _signed(value: float | None, decimals: int) -> str | None:
    if value is None:
        return None
    shown = 0.0 if abs(value) < _SAME else value
    return f"{'+' if shown > 0 else ''}{figure(shown, decimals)}"
