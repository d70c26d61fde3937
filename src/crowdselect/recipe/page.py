"""The results of a recipe as one HTML page: no scripts, nothing fetched, all text escaped, links into its own folder."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from crowdselect.plainpage import document, esc, number
from crowdselect.recipe.titles import spoken

_SHOWN = ("answer_reward", "answer_length", "difficulty", "separability", "stability", "near_duplicates")
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
        f"<h1>{esc(title)}</h1>",
        "<p class=warn><b>The pool is simulated: no real model or reward is behind it.</b></p>"
        if simulated
        else "",
        *_problems(found["steps"]),
        *(_headline(one) for one in found["differences"]),
        *_runs(found["runs"]),
        *(part for one in found["differences"] for part in _differences(one)),
        *_selections(found["selections"], found["steps"]),
        *_steps(found["steps"]),
    ]
    return document(title, parts)


def _problems(steps: Sequence[Row]) -> list[str]:
    words = {
        "failed": "failed; its log says why",
        "left out": "was left out, because a step that it needs failed",
        "incomplete": "ended with something missing; its log says what",
    }
    return [
        f"<p class=warn>{esc(one['step'])} {words[one['state']]}{_link(one['log'], 'log', before=': ')}</p>"
        for one in steps
        if one["state"] in words
    ]


def _headline(found: Row) -> str:
    """Say in one line what is shown; what is not shown is not said."""
    if found["against"] is None:
        return ""
    sure = [one for one in found["differences"] if one["verdict"] in _SURE]
    shown = ", ".join(f"{one['one']} is {one['verdict']} ({_signed(one['difference'])})" for one in sure)
    others = len(found["differences"]) - len(sure)
    rest = f"{others} of {len(found['differences'])} are not shown to differ from it" if others else ""
    return f"<p><b>{esc(found['benchmark'])}</b>, against {esc(found['against'])}: {esc('; '.join(filter(None, (shown, rest))))}.</p>"


def _is_unclear(one: Row) -> bool:
    return one["interval"] is None or one["interval"][0] <= 0 <= one["interval"][1]


def _runs(runs: Sequence[Row]) -> list[str]:
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
            f"<small>{esc(run['model'])}, as it is</small>"
            if named
            else _link(run["model"], "model", small=True)
        )
        cells = [f"{esc(run['run'])}{note}", number(run["rows"])]
        cells += [number(losses.get(name)) for name in ("last_loss", "eval_loss_before", "eval_loss")]
        cells += [_score(run["results"].get(name)) for name in benchmarks]
        rows.append(cells)
    warnings = dict.fromkeys(warning for run in runs for warning in run["warnings"])
    items = "".join(f"<li>{esc(warning)}</li>" for warning in warnings)
    return [
        "<h2>Runs</h2>",
        (
            "<p>Losses of different selections are losses on different rows: they say whether a training went well, "
            "not which student is better. Below each score is its 95 % interval over questions; it does not hold what "
            "another training seed would change.</p>"
        ),
        _table(heads, rows),
        f"<ul>{items}</ul>" if items else "",
    ]


def _score(result: Row | None) -> str:
    if result is None:
        return "-"
    missing = f", {result['missing']} of {result['verdicts']} verdicts missing" if result["missing"] else ""
    return f"{number(result['score'])}<small>{_ends(result['interval'])}{missing}</small>{_link(result['folder'], 'result', small=True)}"


def _differences(found: Row) -> list[str]:
    """Paired differences; the words are those of the comparison, so none where the interval holds 0."""
    against = found["against"]
    what = f"against {against}" if against is not None else "all against all"
    standings = [
        [
            esc(one["name"]),
            str(one["runs"]),
            str(one["questions"]),
            f"{number(one['score'])}<small>{_ends(one['interval'])}</small>",
            f"{number(one['lowest'])} to {number(one['highest'])}" if one["runs"] > 1 else "-",
        ]
        for one in found["standings"]
    ]
    rows = []
    for one in found["differences"]:
        kind = _SURE.get(one["verdict"], "usual")
        rows.append(
            [
                esc(f"{one['one']} - {one['other']}"),
                f"<span class={kind}>{_signed(one['difference'])}</span><small>{_ends(one['interval'])}</small>",
                f"{one['questions']}<small>{one['differing']} differ</small>",
                number(one["p_holm"]),
                esc(one["verdict"]),
            ]
        )
    unclear = sum(_is_unclear(one) for one in found["differences"])
    return [
        f"<h2>{esc(found['benchmark'])}: {esc(what)}</h2>",
        (
            f"<p>Scores: {esc(found['unit'])}. Differences are paired over questions, and runs of one method are a second "
            f"level of the resampling{'; p is corrected for the number of comparisons here (Holm)' if len(rows) > 1 else ''}. "
            f"{unclear} of {len(rows)} intervals hold 0: there no difference is shown, which is not the same as none."
            f"{_link(found['page'], 'the whole comparison', before=' ')}</p>"
        ),
        _table(["method", "runs", "questions", "score", "runs from"], standings),
        "<p></p>",
        _table(["difference", "score", "questions", "p, Holm", "so the first is"], rows),
        *(f"<p class=soft>{esc(note)}</p>" for note in found["notes"]),
    ]


def _selections(found: Sequence[Row], steps: Sequence[Row]) -> list[str]:
    if not found:
        return []
    pages = [one["output"] for one in steps if one["command"] == "compare" and one["output"]]
    shown = [name for name in _SHOWN if any((one["figures"] or {}).get(name) is not None for one in found)]
    rows = []
    for one in found:
        figures, beyond = one["figures"] or {}, one["beyond_random"] or {}
        cells = [
            f"{esc(one['selection'])}{_link(one['folder'], 'folder', small=True)}{_link(one['report'], 'report', small=True)}"
        ]
        cells.append(number(one["rows"]))
        rows.append([*cells, *(_figure(figures.get(name), beyond.get(name, 0)) for name in shown)])
    words = (
        "Means over the chosen rows; &#9650; and &#9660;: beyond what one more random choice would show. Several random "
        "choices stand in the comparison as one, so they have no figures here."
    )
    links = "".join(_link(page, "the selections side by side", before=" ") for page in pages)
    return [
        "<h2>Selections</h2>",
        f"<p>{words if shown else ''}{links}</p>",
        _table(["selection", "rows", *(_WORDS.get(name, name) for name in shown)], rows),
    ]


def _figure(value: float | None, beyond: int) -> str:
    kind, sign = _MARKS[beyond]
    return f"<span class={kind}>{sign} {number(value)}</span>" if sign else number(value)


def _steps(steps: Sequence[Row]) -> list[str]:
    rows = [
        [
            esc(one["step"]),
            esc(one["command"]),
            esc(one["state"])
            + ("" if one["made_now"] or one["state"] != "done" else "<small>before</small>"),
            "-" if one["seconds"] is None else spoken(one["seconds"]),
            _link(one["output"], "result") or "-",
            _link(one["log"], "log") or "-",
        ]
        for one in steps
    ]
    return ["<h2>Steps</h2>", _table(["step", "command", "state", "time", "", ""], rows)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out cells of HTML under headings of text."""
    head = "".join(f"<th>{esc(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _link(path: str | None, words: str, *, before: str = "", small: bool = False) -> str:
    """Link into the results' own folder; a path with a colon must not become a scheme."""
    if path is None:
        return ""
    link = f'{before}<a href="./{esc(quote(path))}">{esc(words)}</a>'
    return f"<small>{link}</small>" if small else link


def _ends(ends: Sequence[float] | None) -> str:
    return "no interval" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def _signed(value: float | None) -> str:
    return f"+{number(value)}" if value is not None and value > 0 else number(value)
