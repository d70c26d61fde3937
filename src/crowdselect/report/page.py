"""HTML pages from Jinja2 templates and one stylesheet; no text from outside can run code in them.

All HTML is in `templates/`; Python only supplies values. Every value is treated as text: autoescape is on, and control
and direction characters are shown as escapes. Two other kinds of text go into a page: JSON in a block that browsers
do not run (`json_block`), and our own scripts, the only ones that the content security policy allows, by hash. A page
is self-contained: it makes no network requests.
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
from markupsafe import Markup, escape

from crowdselect import __version__
from crowdselect._optional import optional
from crowdselect.cache import folder
from crowdselect.repeats import as_text
from crowdselect.terminal import counted, reworded, thousands, visible
from crowdselect.writing import new_file

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
_NAMED = re.compile(r"`([^`]+)`")
_LONE = re.compile("[\ud800-\udfff]")
_MEANT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(
    template: str,
    *,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    worker: bool = False,
    data: Any = None,  # noqa: ANN401  (plain values)
    packed: bytes | None = None,
    made: Mapping[str, Any] | None = None,
    **values: Any,  # noqa: ANN401  (plain values)
) -> str:
    """Fill a template that extends `base.html`.

    Args:
        template: Its name in `templates/`.
        scripts: JavaScript of ours; nothing else may run.
        styles: CSS of ours, after the stylesheet that all pages share.
        worker: Whether the scripts may start a worker, from their own text.
        data: What the scripts read, plain values without NaN; None = no block of data.
        packed: Bytes for the scripts, which find them as base64 in a block; None = none.
        made: From `crowdselect.repeats.made_by`, by which the same command knows its page again; None = it does not.
        values: For the template: `title`, `kind`, `simulated`, `warnings` (for `base.html`), and its own. None of them
            is taken for HTML.

    Returns:
        The complete HTML document.

    Raises:
        jinja2.UndefinedError: The template uses a value that is missing.

    Example:
        >>> page = render("base.html", title="<b>", kind="page", simulated=False, warnings=[])
        >>> "<title>&lt;b&gt;</title>" in page, "<script" in page
        (True, False)
    """
    style = "".join([asset("page.css"), *styles])
    policy = [
        "default-src 'none'",
        *([f"script-src {' '.join(map(_hash, scripts))}"] if scripts else []),
        *(["worker-src blob:"] if worker else []),
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
        packed=None if packed is None else Markup(base64.b64encode(packed).decode()),  # noqa: S704  (base64)
        made=None if made is None else as_text(made),
        version=__version__,
    )


def frame(page: str, *, title: str) -> str:
    """Put a whole page into a frame, for a notebook's cell.

    Example:
        >>> frame("1 & 2", title="a page").count("1 &amp; 2")
        1
    """
    return _environment().get_template("frame.html").render(page=escape(page), title=title)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("crowdselect.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "thousands": thousands, "counted": counted}
    environment.filters |= {
        "percent": percent,
        "listed": listed,
        "code_parts": code_parts,
        "reworded": reworded,
    }
    return environment


def _text(value: object) -> object:
    """Make a value one line, with control and direction characters as escapes; Jinja2 then escapes HTML."""
    return value if isinstance(value, Markup) else visible(value)


def asset(name: str) -> str:
    """Return the content of a file in `templates/`."""
    return (files("crowdselect.report") / "templates" / name).read_text(encoding="utf-8")


def json_block(value: Any) -> Markup:  # noqa: ANN401  (plain values)
    r"""Write JSON that is safe inside a script element: HTML's special characters are escaped.

    Args:
        value: Plain values; no NaN.

    Returns:
        JSON. Lone surrogates, which UTF-8 cannot encode, are escaped too.

    Example:
        >>> str(json_block("</script>"))
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, meant in _MEANT.items():
        text = text.replace(sign, meant)
    return Markup(_LONE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # noqa: S704  (escaped here)


# Filters of the templates. Each returns text, never HTML.


def number(value: float | None) -> str:
    """Format a figure: whole numbers from 1,000, else four significant digits; "-" for None or NaN.

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
    """Format a difference: as `number`, with a plus if positive.

    Example:
        >>> signed(1.5), signed(-1.5), signed(0.0)
        ('+1.5', '-1.5', '0')
    """
    return f"+{number(value)}" if value is not None and value > 0 else number(value)


def percent(value: float, digits: int = 0) -> str:
    """Format a share, 0 to 1, in percent.

    Example:
        >>> percent(0.125), percent(0.125, 1)
        ('12%', '12.5%')
    """
    return f"{value:.{digits}%}"


def listed(names: Sequence[str]) -> str:
    """Join names as a list in a sentence.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def code_parts(message: str) -> list[str]:
    """Part a message at what it has in backticks, the names of options: every second part is one.

    Example:
        >>> code_parts("replace it with `overwrite=True`")
        ['replace it with ', 'overwrite=True', '']
    """
    return _NAMED.split(message)


# Vega


def vega_bundle(version: str) -> str:
    """Return Vega, Vega-Lite and Vega-Embed (with its expression interpreter) as one script; cached on disk.

    Args:
        version: Version of Vega-Lite, in vl-convert's notation.

    Returns:
        JavaScript that defines `vegaEmbed`.

    Raises:
        MissingExtraError: vl-convert is not installed.
    """
    convert = optional("vl_convert", extra="report")
    place = folder() / "report" / f"vega-lite-{version}-{convert.__version__}.js"
    try:
        digest, _, cached = place.read_text(encoding="utf-8").partition("\n")
        if digest == hashlib.sha256(cached.encode()).hexdigest():
            return cached
    except (OSError, UnicodeDecodeError):
        pass  # missing or unusable: build it again
    bundle: str = convert.javascript_bundle(_SNIPPET, vl_version=version)
    # Escape what would end the script element early, without changing the JavaScript.
    bundle = bundle.replace("\r", "").replace("</script", "<\\/script").replace("<!--", "<\\!--")
    _keep(place, bundle)
    return bundle


def _keep(place: Path, bundle: str) -> None:
    with suppress(OSError):  # with a read-only cache the bundle is only built again next time
        place.parent.mkdir(parents=True, exist_ok=True)
        with new_file(place) as partial:
            digest = hashlib.sha256(bundle.encode()).hexdigest()
            partial.write_text(f"{digest}\n{bundle}", encoding="utf-8", newline="\n")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
