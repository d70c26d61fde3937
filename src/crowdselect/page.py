"""One HTML file that holds everything it needs and asks nobody for anything.

Three kinds of text meet here, each made harmless in its own way: HTML of ours with pool text between tags (`esc`),
JSON in a block that no browser runs (`json_block`), and scripts of ours, which alone may run: the content security
policy names their hashes and allows nothing else.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.show import visible

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_LONE = re.compile("[\ud800-\udfff]")
_MEANT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def esc(value: object) -> str:
    """Text for between tags or inside quotes: one line, control and direction characters as escapes.

    Example:
        >>> esc("<b>")
        '&lt;b&gt;'
    """
    return html.escape(visible(value))


def json_block(value: Any) -> str:  # noqa: ANN401  (plain values)
    r"""JSON that can stand in a script element: no character in it means anything to HTML.

    Args:
        value: Plain values; no NaN.

    Returns:
        JSON. Half of a surrogate pair, which UTF-8 cannot hold, is an escape too.

    Example:
        >>> json_block("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, escape in _MEANT.items():
        text = text.replace(sign, escape)
    return _LONE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), name: str = ""
) -> str:
    """A table of HTML cells; on a phone each row becomes a block.

    Args:
        heads: Headings, plain text.
        rows: Cells, HTML (from `esc`).
        numbers: Columns to align to the right.
        name: Classes.
    """
    kind = ["n" if i in numbers else "" for i in range(len(heads))]
    head = "".join(f'<th class="{k}">{esc(h)}</th>' for k, h in zip(kind, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"head" if i == 0 else kind[i] or "wide"}" data-h="{esc(heads[i])}">{cell}</td>'
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(pool: float, chosen: float) -> str:
    """Two shares, 0 to 1, one above the other; a picture, not text."""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="p" width="{100 * pool:.1f}" height="3.6"></rect>'
        f'<rect class="c" y="4.4" width="{100 * chosen:.1f}" height="3.6"></rect></svg>'
    )


def page(*, title: str, body: str, data: Any, vega: str | None) -> str:  # noqa: ANN401  (plain values)
    """Put a page together.

    Args:
        title: Plain text.
        body: HTML.
        data: What the script reads.
        vega: From `vega_bundle`; None where there is no chart.

    Returns:
        The whole file. Nothing but its own two scripts and its own style may run or apply, nothing is loaded.
    """
    place = files("crowdselect") / "assets"
    style = place.joinpath("report.css").read_text(encoding="utf-8")
    scripts = [*([] if vega is None else [vega]), place.joinpath("report.js").read_text(encoding="utf-8")]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(_hash(script) for script in scripts)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{esc(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="data">{json_block(data)}</script>\n'
        + "\n".join(f"<script>{script}</script>" for script in scripts)
        + "\n</body>\n</html>\n"
    )


def vega_bundle(version: str) -> str:
    """Vega, Vega-Lite and Vega-Embed (with its interpreter of expressions) as one script; kept in the cache.

    Args:
        version: Of Vega-Lite, as vl-convert names it.

    Returns:
        JavaScript that defines `vegaEmbed`.

    Raises:
        MissingExtraError: vl-convert is not installed.
    """
    convert = optional("vl_convert", extra="report")
    place = folder() / "report" / f"vega-lite-{version}-{convert.__version__}.js"
    try:
        digest, _, kept = place.read_text(encoding="utf-8").partition("\n")
        if digest == hashlib.sha256(kept.encode()).hexdigest():
            return kept
    except (OSError, UnicodeDecodeError):
        pass  # not there yet, or not usable: made again
    made: str = convert.javascript_bundle(_SNIPPET, vl_version=version)
    # What would end the script element early is written so that it means the same in JavaScript.
    made = made.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    _keep(place, made)
    return made


def _keep(place: Any, made: str) -> None:  # noqa: ANN401  (a path)
    from contextlib import suppress

    from crowdselect.outputs import new_file

    with suppress(OSError):  # a read-only home costs four seconds next time, not the report
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_file(place) as partial:
            partial.write_text(
                f"{hashlib.sha256(made.encode()).hexdigest()}\n{made}", encoding="utf-8", newline="\n"
            )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
