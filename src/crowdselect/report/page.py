"""Pages of HTML: Jinja2 templates, one stylesheet, and nothing from outside that can act.

The templates in `templates/` are the only HTML; Python gives them values. A value is text wherever it comes from:
autoescape is on, and control and direction characters are shown as escapes. Two more kinds of text go into a page,
each made harmless in its own way: JSON in a block that no browser runs (`json_block`), and scripts of ours, which
alone may run: the content security policy names their hashes and allows nothing else. A page is self-contained: it
makes no network requests.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crowdselect import __version__
from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.repeats import as_text
from crowdselect.terminal import counted, thousands, visible
from crowdselect.writing import new_file

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_LONE = re.compile("[\ud800-\udfff]")
_MEANT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(
    template: str,
    *,
    scripts: Sequence[str] = (),
    data: Any = None,  # noqa: ANN401  (plain values)
    made: Mapping[str, Any] | None = None,
    **values: Any,  # noqa: ANN401  (plain values)
) -> str:
    """Fill a template that extends `base.html`.

    Args:
        template: Its name in `templates/`.
        scripts: JavaScript of ours; nothing else may run.
        data: What the scripts read, plain values without NaN; None = no block of data.
        made: From `crowdselect.repeats.made_by`, by which the same command knows its page again; None = it does not.
        values: For the template: `title`, `kind`, `simulated`, `warnings` (for `base.html`), and its own. None of them
            is taken for HTML.

    Returns:
        The whole file.

    Raises:
        jinja2.UndefinedError: The template names a value that it is not given.

    Example:
        >>> page = render("base.html", title="<b>", kind="page", simulated=False, warnings=[])
        >>> "<title>&lt;b&gt;</title>" in page, "<script" in page
        (True, False)
    """
    style = asset("page.css")
    policy = [
        "default-src 'none'",
        *([f"script-src {' '.join(map(_hash, scripts))}"] if scripts else []),
        f"style-src {_hash(style)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    page = _environment().get_template(template)
    return page.render(
        values,
        policy=Markup("; ".join(policy)),  # noqa: S704  (ours: hashes, and quotes that belong there)
        style=Markup(style),  # noqa: S704  (ours)
        scripts=[Markup(script) for script in scripts],  # noqa: S704  (ours)
        data=None if data is None else json_block(data),
        made=None if made is None else as_text(made),
        version=__version__,
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("crowdselect.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "signed": signed, "thousands": thousands, "counted": counted}
    made.filters |= {"percent": percent, "listed": listed}
    return made


def _text(value: object) -> object:
    """What a place in a template shows: one line, control and direction characters as escapes; Jinja2 escapes it."""
    return value if isinstance(value, Markup) else visible(value)


def asset(name: str) -> str:
    """A file of `templates/`, as it is."""
    return (files("crowdselect.report") / "templates" / name).read_text(encoding="utf-8")


def json_block(value: Any) -> Markup:  # noqa: ANN401  (plain values)
    r"""JSON that can stand in a script element: no character in it means anything to HTML.

    Args:
        value: Plain values; no NaN.

    Returns:
        JSON. Half of a surrogate pair, which UTF-8 cannot hold, is an escape too.

    Example:
        >>> str(json_block("</script>"))
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, escape in _MEANT.items():
        text = text.replace(sign, escape)
    return Markup(_LONE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # noqa: S704  (escaped here)


# Filters of the templates. Each gives text, never HTML.


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


def signed(value: float | None) -> str:
    """A difference: as `number`, with a plus where it is positive.

    Example:
        >>> signed(1.5), signed(-1.5), signed(0.0)
        ('+1.5', '-1.5', '0')
    """
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def percent(value: float, digits: int = 0) -> str:
    """A share, 0 to 1, in percent.

    Example:
        >>> percent(0.125), percent(0.125, 1)
        ('12%', '12.5%')
    """
    return f"{value:.{digits}%}"


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


# Vega


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


def _keep(place: Path, made: str) -> None:
    with suppress(OSError):  # a read-only home costs four seconds next time, not the report
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_file(place) as partial:
            digest = hashlib.sha256(made.encode()).hexdigest()
            partial.write_text(f"{digest}\n{made}", encoding="utf-8", newline="\n")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
