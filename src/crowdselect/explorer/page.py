"""The page of `explore`: options, a choice made in the browser, and what shows it, in one self-contained file.

`engine.js` makes the choice. The page runs it twice: as a script, for the command and the recipe of a setting, and in a
worker, which it starts from the same text, for the choice itself.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from crowdselect.report.page import asset, render

_SECTIONS = {
    "changes": "In and out",
    "sides": "Side by side",
    "numbers": "Numbers",
    "map": "Map",
    "clusters-section": "Clusters",
    "teachers": "Teachers",
    "lengths": "Lengths",
    "student": "Student",
    "rows": "Every row",
}


def make_page(head: Mapping[str, Any], packed: bytes, *, made: Mapping[str, Any] | None = None) -> str:
    """Put a pool's numbers and the scripts that choose by them into one page.

    Args:
        head: From `crowdselect.explorer.payload`, plain values.
        packed: What belongs to it, compressed by gzip.
        made: As for `crowdselect.report.page.render`.

    Returns:
        HTML.
    """
    name = head["pool"].rstrip("/").rpartition("/")[2]
    parts = [asset("parts.js"), *(_asset(name) for name in ("charts.js", "rows.js", "page.js"))]
    return render(
        "explore.html",
        scripts=[_asset("engine.js"), f"(() => {{\n{''.join(parts)}}})();\n"],
        styles=[_asset("explore.css")],
        worker=True,
        data=head,
        packed=packed,
        made=made,
        title=f"What if? {name}",
        kind="explore",
        simulated=head["simulated"],
        warnings=[*head["warnings"], *head["notes"]],
        pool=name,
        n=head["n"],
        sections=_SECTIONS,
    )


def _asset(name: str) -> str:
    return (files("crowdselect.explorer") / name).read_text(encoding="utf-8")
