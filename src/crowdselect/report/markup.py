"""HTML in which nothing from outside can act: a template of ours escapes every value that is put into it.

`html` makes HTML of a template, which is a literal of ours, and of values, which it escapes; what it made before
goes in as it is. A page is put together of nothing else: a plain string is text wherever it comes from.
"""

import html as _html
import string
from collections.abc import Iterable
from typing import Any, LiteralString

from crowdselect.terminal import visible


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
