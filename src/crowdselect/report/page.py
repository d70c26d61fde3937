"""Pages of HTML in which nothing from outside can act, which hold everything they need and ask nobody for anything.

`html` makes HTML of a template, which is a literal of ours, and of values, which it escapes; what it made before
goes in as it is. A page is put together of nothing else: a plain string is text wherever it comes from. `document` is
a page without scripts. `page` holds two more kinds of text, each made harmless in its own way: JSON in a block that no
browser runs (`json_block`), and scripts of ours, which alone may run: the content security policy names their hashes
and allows nothing else.
"""

import base64
import hashlib
import html as _html
import json
import math
import re
import string
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, LiteralString

from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.terminal import visible

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_LONE = re.compile("[\ud800-\udfff]")
_MEANT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_STYLE = """
:root{color-scheme:light dark;--ink:#23262b;--soft:#656a73;--line:#e3dfd6;--paper:#fff;--back:#f7f5f0;--band:#d9dde4;
--above:#255fa3;--below:#a4571a;--dot:#2f6db5}
@media(prefers-color-scheme:dark){:root{--ink:#e9e6df;--soft:#a2a6ae;--line:#33373e;--paper:#1d2025;--back:#15171b;
--band:#3a3f48;--above:#7db4f2;--below:#f0a35e;--dot:#6aa9f0}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",Arial,sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .75rem}h2{font-size:1.15rem;margin:2.5rem 0 .5rem}
p{max-width:46rem;margin:.5rem 0}.soft{color:var(--soft)}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:middle}
tr:last-child>*{border-bottom:0}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:9rem;position:sticky;left:0;
background:var(--paper)}
thead th{vertical-align:bottom;white-space:normal;overflow-wrap:break-word;min-width:6rem}
thead small,td small{display:block;font-weight:400;color:var(--soft)}
.above{color:var(--above);font-weight:600}.below{color:var(--below);font-weight:600}
svg{display:block}.band{fill:var(--band)}.mean{stroke:var(--soft);stroke-width:1.5}.dot{fill:var(--dot);fill-opacity:.75}
.warn{border-left:3px solid var(--below);padding-left:.75rem}
li{overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--above);padding:.5rem .2rem}
"""


class Markup(str):
    """HTML that is safe to show. Only `html`, `esc` and `joined` make it of values; a literal may be given to it."""

    __slots__ = ()


class _Template(string.Formatter):
    """Formats as `str.format` does, and escapes."""

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401  (any value)
        if isinstance(value, Markup):
            return value
        return esc(format(value, format_spec))

    def convert_field(self, value: Any, conversion: str | None) -> Any:  # noqa: ANN401  (any value)
        if conversion is not None:
            raise ValueError(f"!{conversion} has no place in a template of HTML")
        return value


_TEMPLATE = _Template()


def html(template: LiteralString, *values: object, **named: object) -> Markup:
    """Fill a template of HTML.

    Args:
        template: A literal, with places as for `str.format`. A place in an attribute stands in quotes.
        values: For the places. Each is escaped, unless it is `Markup`.
        named: Likewise, by name.

    Returns:
        HTML.

    Example:
        >>> html('<td title="{}">{:,}</td>{}', '"><script>', 1234, html("<br>"))
        '<td title="&quot;&gt;&lt;script&gt;">1,234</td><br>'
    """
    return Markup(_TEMPLATE.vformat(template, values, named))


def esc(value: object) -> Markup:
    """Text for between tags or inside quotes: one line, control and direction characters as escapes.

    Example:
        >>> esc("<b>"), esc(html("<b>"))
        ('&lt;b&gt;', '<b>')
    """
    return value if isinstance(value, Markup) else Markup(_html.escape(visible(value)))


def joined(parts: Iterable[object], between: LiteralString = "") -> Markup:
    """Put parts after each other; each is escaped, unless it is `Markup`.

    Example:
        >>> joined(["a<", html("<br>"), "b"], ", ")
        'a&lt;, <br>, b'
    """
    return Markup(_html.escape(between).join(esc(part) for part in parts))


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


def document(title: str, parts: Sequence[Markup]) -> str:
    """Make a page of its parts.

    Args:
        title: Text.
        parts: HTML; empty ones are left out, plain text is escaped.

    Returns:
        A whole HTML document, whose content security policy allows its own style and nothing else.
    """
    return html(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'\">\n"
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        "<title>{}</title><style>{}</style></head>\n<body><main>\n{}\n</main></body></html>\n",
        title,
        Markup(_STYLE),
        joined((part for part in parts if part), "\n"),
    )


def number(value: float | None) -> str:
    """A figure with as many digits as it needs.

    Example:
        >>> number(1234.5), number(0.12345), number(12.0), number(None)
        ('1,234', '0.1235', '12', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def plain_table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Lay out cells under headings; what is plain text is escaped.

    Example:
        >>> plain_table(["a"], [["<b>"]])
        '<div class=scroll><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table></div>'
    """
    head = joined(html("<th>{}</th>", one) for one in heads)
    body = joined(html("<tr>{}</tr>", joined(html("<td>{}</td>", cell) for cell in row)) for row in rows)
    return html(
        "<div class=scroll><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>", head, body
    )
