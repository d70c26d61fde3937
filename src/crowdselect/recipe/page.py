"""The results of a recipe as one HTML page: no scripts, nothing fetched, all text escaped, links into its own folder."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from crowdselect.numeric.metrics import METRICS
from crowdselect.recipe.reading import spoken
from crowdselect.report.page import Markup, document, html, joined, number, plain_table

_WORDS = {
    "answer_reward": "reward of the answer",
    "answer_length": "length of the answer",
    "near_duplicates": "share with a near-duplicate",
}
_MARKS = {1: ("above", "\u25b2"), -1: ("below", "\u25bc"), 0: ("usual", "")}

_SURE = {"higher": "above", "lower": "below"}  # verdicts of a comparison; any other one shows no difference

Row = Mapping[str, Any]


def results_page(found: Row) -> str:
    """Write the page.

    Args:
        found: From `results.gather`.

    Returns:
        A whole HTML document; names from recipes, pools and models are shown as text.
    """
    title = (
        f"{found['recipe']}: {len(found['runs'])} runs" if found["runs"] else f"{found['recipe']}: selections"
    )
    simulated = any(one["simulated"] for one in found["selections"])
    parts = [
        html("<h1>{}</h1>", title),
        html("<p class=warn><b>The pool is simulated: no real model or reward is behind it.</b></p>")
        if simulated
        else Markup(),
        *_problems(found["steps"]),
        *(_headline(one) for one in found["differences"]),
        *_runs(found["runs"]),
        *(part for one in found["differences"] for part in _differences(one)),
        *_selections(found["selections"], found["steps"]),
        *_steps(found["steps"]),
    ]
    return document(title, parts)


def _problems(steps: Sequence[Row]) -> list[Markup]:
    words = {
        "failed": "failed; its log says why",
        "left out": "was left out, because a step that it needs failed",
        "incomplete": "ended with something missing; its log says what",
    }
    return [
        html(
            "<p class=warn>{} {}{}</p>",
            one["step"],
            words[one["state"]],
            _link(one["log"], "log", before=": "),
        )
        for one in steps
        if one["state"] in words
    ]


def _headline(found: Row) -> Markup:
    """Say in one line what is shown; what is not shown is not said."""
    if found["against"] is None:
        return Markup()
    sure = [one for one in found["differences"] if one["verdict"] in _SURE]
    shown = ", ".join(f"{one['one']} is {one['verdict']} ({_signed(one['difference'])})" for one in sure)
    others = len(found["differences"]) - len(sure)
    rest = f"{others} of {len(found['differences'])} are not shown to differ from it" if others else ""
    told = "; ".join(filter(None, (shown, rest)))
    return html("<p><b>{}</b>, against {}: {}.</p>", found["benchmark"], found["against"], told)


def _is_unclear(one: Row) -> bool:
    return one["interval"] is None or one["interval"][0] <= 0 <= one["interval"][1]


def _runs(runs: Sequence[Row]) -> list[Markup]:
    """One row per selection and training seed."""
    if not runs:
        return []
    benchmarks = list(dict.fromkeys(name for run in runs for name in run["results"]))
    heads = ["run", "rows", "loss, last tenth", "held-out loss before", "after", *benchmarks]
    rows = []
    for run in runs:
        losses = run["losses"] or {}
        named = run["model"] is not None and run["losses"] is None
        note = (
            html("<small>{}, as it is</small>", run["model"])
            if named
            else _link(run["model"], "model", small=True)
        )
        cells: list[object] = [html("{}{}", run["run"], note), number(run["rows"])]
        cells += [number(losses.get(name)) for name in ("last_loss", "eval_loss_before", "eval_loss")]
        cells += [_score(run["results"].get(name)) for name in benchmarks]
        rows.append(cells)
    warnings = dict.fromkeys(warning for run in runs for warning in run["warnings"])
    items = joined(html("<li>{}</li>", warning) for warning in warnings)
    return [
        html("<h2>Runs</h2>"),
        html(
            "<p>Losses of different selections are losses on different rows: they say whether a training went well, "
            "not which student is better. Below each score is its 95 % interval over questions; it does not hold what "
            "another training seed would change.</p>"
        ),
        plain_table(heads, rows),
        html("<ul>{}</ul>", items) if items else Markup(),
    ]


def _score(result: Row | None) -> Markup:
    if result is None:
        return html("-")
    missing = f", {result['missing']} of {result['verdicts']} verdicts missing" if result["missing"] else ""
    return html(
        "{}<small>{}{}</small>{}",
        number(result["score"]),
        _ends(result["interval"]),
        missing,
        _link(result["folder"], "result", small=True),
    )


def _with_ends(value: float | None, ends: Sequence[float] | None) -> Markup:
    return html("{}<small>{}</small>", number(value), _ends(ends))


def _differences(found: Row) -> list[Markup]:
    """Paired differences; the words are those of the comparison, so none where the interval holds 0."""
    against = found["against"]
    what = f"against {against}" if against is not None else "all against all"
    standings = [
        [
            one["name"],
            one["runs"],
            one["questions"],
            _with_ends(one["score"], one["interval"]),
            f"{number(one['lowest'])} to {number(one['highest'])}" if one["runs"] > 1 else "-",
        ]
        for one in found["standings"]
    ]
    rows = []
    for one in found["differences"]:
        kind = _SURE.get(one["verdict"], "usual")
        rows.append(
            [
                f"{one['one']} - {one['other']}",
                html(
                    '<span class="{}">{}</span><small>{}</small>',
                    kind,
                    _signed(one["difference"]),
                    _ends(one["interval"]),
                ),
                html("{}<small>{} differ</small>", one["questions"], one["differing"]),
                number(one["p_holm"]),
                one["verdict"],
            ]
        )
    unclear = sum(_is_unclear(one) for one in found["differences"])
    return [
        html("<h2>{}: {}</h2>", found["benchmark"], what),
        html(
            "<p>Scores: {}. Differences are paired over questions, and runs of one method are a second "
            "level of the resampling{}. "
            "{} of {} intervals hold 0: there no difference is shown, which is not the same as none.{}</p>",
            found["unit"],
            "; p is corrected for the number of comparisons here (Holm)" if len(rows) > 1 else "",
            unclear,
            len(rows),
            _link(found["page"], "the whole comparison", before=" "),
        ),
        plain_table(["method", "runs", "questions", "score", "runs from"], standings),
        html("<p></p>"),
        plain_table(["difference", "score", "questions", "p, Holm", "so the first is"], rows),
        *(html("<p class=soft>{}</p>", note) for note in found["notes"]),
    ]


def _selections(found: Sequence[Row], steps: Sequence[Row]) -> list[Markup]:
    if not found:
        return []
    pages = [one["output"] for one in steps if one["command"] == "compare" and one["output"]]
    wanted = ("answer_reward", "answer_length", *METRICS, "near_duplicates")
    shown = [name for name in wanted if any((one["figures"] or {}).get(name) is not None for one in found)]
    rows = []
    for one in found:
        figures, beyond = one["figures"] or {}, one["beyond_random"] or {}
        links = [_link(one["folder"], "folder", small=True), _link(one["report"], "report", small=True)]
        cells = (_figure(figures.get(name), beyond.get(name, 0)) for name in shown)
        rows.append([joined([one["selection"], *links]), number(one["rows"]), *cells])
    words = html(
        "Means over the chosen rows; &#9650; and &#9660;: beyond what one more random choice would show. Several random "
        "choices stand in the comparison as one, so they have no figures here."
    )
    side_by_side = joined(_link(page, "the selections side by side", before=" ") for page in pages)
    return [
        html("<h2>Selections</h2>"),
        html("<p>{}{}</p>", words if shown else "", side_by_side),
        plain_table(["selection", "rows", *(_WORDS.get(name, name) for name in shown)], rows),
    ]


def _figure(value: float | None, beyond: int) -> Markup:
    kind, sign = _MARKS[beyond]
    if not sign:
        return html("{}", number(value))
    return html('<span class="{}">{} {}</span>', kind, sign, number(value))


def _steps(steps: Sequence[Row]) -> list[Markup]:
    rows = [
        [
            one["step"],
            one["command"],
            html("{}<small>before</small>", one["state"])
            if one["state"] == "done" and not one["made_now"]
            else one["state"],
            "-" if one["seconds"] is None else spoken(one["seconds"]),
            _link(one["output"], "result") or "-",
            _link(one["log"], "log") or "-",
        ]
        for one in steps
    ]
    return [html("<h2>Steps</h2>"), plain_table(["step", "command", "state", "time", "", ""], rows)]


def _link(path: str | None, words: str, *, before: str = "", small: bool = False) -> Markup:
    """Link into the results' own folder; a path with a colon must not become a scheme."""
    if path is None:
        return Markup()
    link = html('{}<a href="./{}">{}</a>', before, quote(path), words)
    return html("<small>{}</small>", link) if small else link


def _ends(ends: Sequence[float] | None) -> str:
    return "no interval" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def _signed(value: float | None) -> str:
    return f"+{number(value)}" if value is not None and value > 0 else number(value)
