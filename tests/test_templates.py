"""All HTML is in templates, and the templates escape every value."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from crowdselect.report.page import render
from crowdselect.report.report import SECTIONS

SOURCE = Path(__file__).parent.parent / "src" / "crowdselect"
PLACE = SOURCE / "report" / "templates"
TEMPLATES = sorted(PLACE.rglob("*.html"))
META = '<meta http-equiv=refresh content="0;url=https://evil.example/">'
SCRIPT = "</title></style></script><script>window.hit=1</script>"


def base(**values) -> str:
    return render("base.html", **{"title": "t", "kind": "page", "simulated": False, "warnings": []} | values)


@given(st.text())
def test_no_value_leaves_its_place(text):
    shown = base(title=text).partition("<h1>")[2].partition("</h1>")[0]
    assert not set(shown) & set("<>\"'\n\r\x00\u202e")


def test_a_script_in_a_text_stays_text():
    page = base(title=SCRIPT, kind=META, warnings=[SCRIPT, META], data={SCRIPT: META})
    assert page.count("<script") == 1  # the block of data
    assert "<meta http-equiv=refresh" not in page
    assert page.count("&lt;script&gt;window.hit=1&lt;/script&gt;") == 3
    assert "\\u003cscript\\u003ewindow.hit=1" in page


def test_names_of_options_in_a_warning_are_code():
    page = base(warnings=["lower `weights`, or pass `overwrite=True`; 1 ` alone", "`<b>`"])
    assert "<li>lower <code>weights</code>, or pass <code>overwrite=True</code>; 1 ` alone</li>" in page
    assert "<li><code>&lt;b&gt;</code></li>" in page
    assert page.startswith("<!doctype html>")


def test_what_a_page_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("base.html", title="t")


def test_every_section_has_its_template_and_every_template_its_section():
    assert {section.key for section in SECTIONS} == {path.stem for path in PLACE.glob("sections/*.html")}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_declare_nothing_safe_and_quote_their_attributes(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup|xmlattr", text)
    assert not re.search(r"=\s*\{\{|<\s*/?\s*\{\{|\son\w+=|\sstyle=", text)
    # `x.clear` of a dict is its method, whatever its keys are
    assert not re.findall(r"\.(?:clear|copy|count|get|index|items|keys|pop|update|values)\b(?!\()", text)
    for link in re.findall(r"(?:href|src)=\"([^\"]*)", text):
        assert link.startswith(("#", "./", "data:image/svg+xml;base64,"))
    for tag in ("script", "style"):
        assert path.name == "base.html" or f"<{tag}" not in text


def test_nothing_from_outside_is_declared_safe():
    """`Markup(...)` stands where the value is known to be ours; each such place is named here."""
    places = {
        (path.name, ast.unparse(call.args[0]))
        for path in sorted(SOURCE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Markup"
    }
    assert places == {
        ("page.py", "'; '.join(policy)"),
        ("page.py", "base64.b64encode(packed).decode()"),
        ("page.py", "style"),
        ("page.py", "script"),
        ("page.py", "_LONE.sub(lambda match: f'\\\\u{ord(match[0]):04x}', text)"),
    }


def test_no_html_is_written_in_python():
    for room in ("report", "explorer", "compare", "evaluate", "recipe"):
        for path in sorted((SOURCE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found = re.search(
                        r"</(p|td|tr|div|span|small|b|h\d|svg|a|li)>|<(p|td|div|svg|br)\b", node.value
                    )
                    assert not found, f"{path.name}:{node.lineno}"
