"""One HTML file that holds everything it needs and asks nobody for anything.

Three kinds of text meet here, each made harmless in its own way: HTML of ours with pool text between tags (`markup`),
JSON in a block that no browser runs (`json_block`), and scripts of ours, which alone may run: the content security
policy names their hashes and allows nothing else.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.report.markup import Markup, html, joined

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_LONE = re.compile("[\ud800-\udfff]")
_MEANT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def json_block(value: Any) -> Markup:  # noqa: ANN401  (plain values)
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
    return Markup(_LONE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), name: str = ""
) -> Markup:
    """A table of HTML cells; on a phone each row becomes a block.

    Args:
        heads: Headings, plain text.
        rows: Cells: text, or HTML (`Markup`).
        numbers: Columns to align to the right.
        name: Classes.
    """
    kind = ["n" if i in numbers else "" for i in range(len(heads))]
    head = joined(html('<th class="{}">{}</th>', k, h) for k, h in zip(kind, heads, strict=True))
    body = joined(
        html(
            "<tr>{}</tr>",
            joined(
                html(
                    '<td class="{}" data-h="{}">{}</td>',
                    "head" if i == 0 else kind[i] or "wide",
                    heads[i],
                    cell,
                )
                for i, cell in enumerate(row)
            ),
        )
        for row in rows
    )
    return html(
        '<div class="scroll"><table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>',
        name,
        head,
        body,
    )


def bar(pool: float, chosen: float) -> Markup:
    """Two shares, 0 to 1, one above the other; a picture, not text."""
    return html(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="p" width="{:.1f}" height="3.6"></rect>'
        '<rect class="c" y="4.4" width="{:.1f}" height="3.6"></rect></svg>',
        100 * pool,
        100 * chosen,
    )


def page(*, title: str, body: Markup, data: Any, vega: str | None) -> str:  # noqa: ANN401  (plain values)
    """Put a page together.

    Args:
        title: Plain text.
        body: HTML; plain text is escaped.
        data: What the script reads.
        vega: From `vega_bundle`; None where there is no chart.

    Returns:
        The whole file. Nothing but its own two scripts and its own style may run or apply, nothing is loaded.
    """
    place = files("crowdselect.report") / "templates"
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
    return html(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        "<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        '<script type="application/json" id="data">{data}</script>\n{scripts}\n</body>\n</html>\n',
        policy=Markup(policy),  # of ours: hashes, and quotes that belong there
        title=title,
        style=Markup(style),
        body=body,
        data=json_block(data),
        scripts=joined((html("<script>{}</script>", Markup(script)) for script in scripts), "\n"),
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

    from crowdselect.writing import new_file

    with suppress(OSError):  # a read-only home costs four seconds next time, not the report
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_file(place) as partial:
            partial.write_text(
                f"{hashlib.sha256(made.encode()).hexdigest()}\n{made}", encoding="utf-8", newline="\n"
            )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
