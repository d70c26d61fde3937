"""The results of a recipe as one HTML page; its template is `recipe.html`, see `crowdselect.report.page`."""

from collections.abc import Mapping
from typing import Any

from crowdselect.numeric.metrics import METRICS
from crowdselect.recipe.reading import spoken
from crowdselect.report.page import render, signed
from crowdselect.terminal import counted

_WORDS = {
    "answer_reward": "reward of the answer",
    "answer_length": "length of the answer",
    "near_duplicates": "share with a near-duplicate",
}
_TROUBLES = {
    "failed": "failed; its log says why",
    "left out": "was left out, because a step that it needs failed",
    "incomplete": "ended with something missing; its log says what",
}
_SURE = {"higher": "above", "lower": "below"}
"""Clear verdicts of a comparison, and their marks; any other verdict shows no difference."""

_Values = Mapping[str, Any]


def results_page(results: _Values) -> str:
    """Write the page.

    Args:
        results: From `results.gather`.

    Returns:
        A complete HTML document without scripts; names from recipes, pools and models are shown as text, and links stay
        inside the results' folder.
    """
    recipe, runs, selections, steps = (results[name] for name in ("recipe", "runs", "selections", "steps"))
    wanted = ("answer_reward", "answer_length", *METRICS, "near_duplicates")
    known = [one["figures"] or {} for one in selections]
    return render(
        "recipe.html",
        title=f"{recipe}: {counted(len(runs), 'run')}" if runs else f"{recipe}: selections",
        kind="recipe",
        simulated=any(one["simulated"] for one in selections),
        warnings=[],
        runs=runs,
        benchmarks=list(dict.fromkeys(name for run in runs for name in run["results"])),
        told=list(dict.fromkeys(warning for run in runs for warning in run["warnings"])),
        differences=[_difference(one) for one in results["differences"]],
        selections=selections,
        figures={
            name: _WORDS.get(name, name)
            for name in wanted
            if any(figures.get(name) is not None for figures in known)
        },
        pages=[one["output"] for one in steps if one["command"] == "compare" and one["output"]],
        steps=[{**one, "time": "-" if one["seconds"] is None else spoken(one["seconds"])} for one in steps],
        troubles=_TROUBLES,
        sure=_SURE,
    )


def _difference(found: _Values) -> dict[str, Any]:
    """Return one benchmark's differences, with a headline and the number of unclear ones."""
    unclear = [
        one
        for one in found["differences"]
        if one["interval"] is None or one["interval"][0] <= 0 <= one["interval"][1]
    ]
    return {**found, "headline": _headline(found["differences"]), "unclear": len(unclear)}


def _headline(differences: list[_Values]) -> str:
    """Return the clear differences in one line; the others are only counted."""
    clear = [one for one in differences if one["verdict"] in _SURE]
    shown = [f"{one['one']} is {one['verdict']} ({signed(one['difference'])})" for one in clear]
    others = len(differences) - len(clear)
    rest = f"{others} of {len(differences)} {'is' if others == 1 else 'are'} not shown to differ from it"
    return "; ".join(filter(None, (", ".join(shown), rest if others else "")))
