"""A page of HTML without scripts: nothing is fetched, all text is escaped, light and dark, wide and narrow."""

import math
from collections.abc import Iterable, Sequence

from crowdselect.report.markup import Markup, html, joined

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


def table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """Lay out cells under headings; what is plain text is escaped.

    Example:
        >>> table(["a"], [["<b>"]])
        '<div class=scroll><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table></div>'
    """
    head = joined(html("<th>{}</th>", one) for one in heads)
    body = joined(html("<tr>{}</tr>", joined(html("<td>{}</td>", cell) for cell in row)) for row in rows)
    return html(
        "<div class=scroll><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>", head, body
    )
