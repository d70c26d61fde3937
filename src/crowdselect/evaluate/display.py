"""What a person sees of an evaluation."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from crowdselect.ask.display import announce, note, print_plan
from crowdselect.evaluate.job import Asked, Plan, Report
from crowdselect.evaluate.protocols import PROTOCOLS
from crowdselect.terminal import print_json, say, table, visible, warn


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print what would be sent; what is not known is said to be."""
    if as_json:
        print_json(
            {"plan": {name: made.facts() for name, made in plan.estimates.items()}, "notes": plan.notes}
        )
        return
    print_plan(plan.estimates, plan.notes)
    say(
        "answers that are still to come count with as many tokens as they may have, also in what the judge reads"
    )


def announce_all(asked: Sequence[Asked]) -> None:
    """Say where requests will go, before the first is sent."""
    for one in asked:
        announce([one.endpoint], one.with_retries)
        if one.with_retries > one.requests:
            note(f"   {one.requests:,} if every verdict can be read; one that cannot is asked for again")


def show_interrupted(report: Report) -> None:
    """Say how to go on after Ctrl-C."""
    note(f"stopped: every reply that came is in {visible(report.task.ledger_path)}")
    note("run the same command again to go on")


def show_result(report: Report, *, told: Container[str], as_json: bool) -> None:
    """Print a result with its interval, its parts, what is missing, and what the judge's verdicts say of it.

    Args:
        report: What came out.
        told: Endpoints of which a line has said why they stopped.
        as_json: Print JSON.
    """
    for name, why in report.stopped.items():
        if name not in told:
            note(f"{visible(name)}: stopped: {visible(why)}")
    found = report.result
    if as_json:
        print_json({"written": str(report.task.folder), **found, "stopped": report.stopped})
        return
    title = PROTOCOLS[found["benchmark"]].title
    beside = f" against {found['baseline']}" if found["baseline"] is not None else ""
    say(visible(f"{title}: {found['model']}{beside}, judged by {found['judge']}"))
    rows = [["all", *_cells(found)]]
    rows += [[f"turn {turn}", *_cells(part)] for turn, part in found.get("turns", {}).items()]
    named = found["categories"]
    rows += [[name or "-", *_cells(part)] for name, part in named.items()] if len(named) > 1 else []
    table(["", ">questions", f">score ({found['unit']})", ">95 % interval"], rows)
    for line in _facts(found):
        say(line)
    for line in found["notes"]:
        warn(line)
    missing = found["verdicts"]
    if missing["missing"]:
        warn(f"{missing['missing']} of {missing['wanted']} verdicts are missing and left out of the score:")
        table(
            [">missing", "because"], [[n, visible(why, width=300)] for why, n in missing["reasons"].items()]
        )
    say(f"written to {visible(report.task.folder)}")


def figure(value: float | None) -> str:
    """Write a score.

    Example:
        >>> figure(6.25), figure(81.34), figure(None)
        ('6.25', '81.3', '-')
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) <= 10 else f"{value:.1f}"


def _cells(part: Mapping[str, Any]) -> list[object]:
    ends = part["interval"]
    shown = None if ends is None else f"{figure(ends[0])} to {figure(ends[1])}"
    return [part["questions_scored"], figure(part["score"]), shown]


def _facts(found: Mapping[str, Any]) -> list[str]:
    lines = []
    drawn = found.get("as_arena_hard_auto")
    if drawn is not None:
        less, more = drawn["score"] - drawn["low"], drawn["high"] - drawn["score"]
        lines.append(
            f"as arena-hard-auto prints it: {drawn['score']:.1f} (-{less:.1f}, +{more:.1f}); the baseline: 50"
        )
        fitted = found["bradley_terry"]
        strength = (
            fitted["why"] if fitted["elo"] is None else f"{fitted['elo']:.0f} points (the baseline: 1000)"
        )
        lines.append(f"Bradley-Terry: {strength}")
    for name, who in (("lengths", found["model"]), ("baseline_lengths", found["baseline"])):
        lengths = found.get(name)
        if lengths is not None and lengths["answers"]:
            tokens = "" if lengths["mean_tokens"] is None else f", {lengths['mean_tokens']:.0f} tokens"
            lines.append(
                f"mean answer of {visible(who)}: {lengths['mean_characters']:.0f} characters{tokens}"
            )
    return [*lines, *_check_lines(found["self_check"])]


def _check_lines(check: Mapping[str, Any]) -> list[str]:
    position, length = check["position"], check["length"]
    lines = [f"judge and order: {position['why']}"] if "why" in position else []
    if position.get("pairs"):
        lines.append(
            f"judge and order: {position['flipped']:.0%} of {position['pairs']} pairs get opposite winners when the order "
            f"changes, {position['changed']:.0%} not the same one; what is shown first gets {position['first_wins']:.0%} of the wins"
        )
    if length["spearman"] is not None:
        lines.append(
            f"judge and length: rank correlation {length['spearman']:+.2f} of verdict and length ({length['pairs']} verdicts)"
        )
    return lines
