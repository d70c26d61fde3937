"""Pages are made of templates that are literals of ours, and of values that the templates escape."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect.report.page import Markup, document, esc, html, joined, page, plain_table, table

SOURCE = Path(__file__).parent.parent / "src" / "crowdselect"
META = '<meta http-equiv=refresh content="0;url=https://evil.example/">'


@given(st.text())
def test_no_value_leaves_its_place(text):
    shown = html('<td title="{0}">{0:}</td>', text)
    inside = shown.removeprefix('<td title="').removesuffix("</td>")
    assert not set(inside.replace('">', "", 1)) & set("<>\"'\n\r\x00")
    assert esc(esc(text)) == esc(text)  # once


def test_what_is_plain_text_is_escaped_wherever_it_comes_from():
    assert html("{}", META) == esc(META) == joined([META]) == html("{name}", name=META)
    assert "<meta http-equiv=refresh" not in document(META, [META])  # though a caller forgot
    assert "<meta http-equiv=refresh" not in page(title=META, body=META, data=META, vega=None)
    for make in (table, plain_table):
        made = make([META], [[META]])
        assert isinstance(made, Markup)
        assert "<meta" not in made
    assert "<b>" not in f"{html('<b>')}".replace("<b>", "")
    assert html("{}", f"{html('<b>')}{META}").count("<") == 0  # an f-string is no template
    assert html("{}", "<" + html("<b>")).count("<") == 0
    assert html("{:,} {:.1%}", 1234, 0.5) == "1,234 50.0%"
    with pytest.raises(ValueError, match="no place"):
        html("{!r}", "x")


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    return [
        (path, node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def test_every_template_is_a_literal_and_has_its_attributes_in_quotes():
    found = calls("html")
    assert len(found) > 80
    for path, call in found:
        template = call.args[0]
        where = f"{path.name}:{call.lineno}"
        assert isinstance(template, ast.Constant), where
        assert isinstance(template.value, str), where
        assert not re.search(r"=\s*\{|<\s*/?\s*\{|\son\w+=|(href|src)=\"\{", template.value), where
        for tag in ("script", "style"):
            if f"<{tag}" in template.value:
                assert path.name == "page.py", where


def test_nothing_from_outside_is_declared_safe():
    """`Markup(...)` of a value stands where the value is known to be ours; each such place is named here."""
    places = {
        (path.name, ast.unparse(call.args[0]))
        for path, call in calls("Markup")
        if call.args and not isinstance(call.args[0], ast.Constant)
    }
    assert places == {
        ("page.py", "_TEMPLATE.vformat(template, values, named)"),
        ("page.py", "_html.escape(visible(value))"),
        ("page.py", "_html.escape(between).join((esc(part) for part in parts))"),
        ("page.py", "policy"),
        ("page.py", "style"),
        ("page.py", "script"),
        ("page.py", "_LONE.sub(lambda match: f'\\\\u{ord(match[0]):04x}', text)"),
        ("page.py", "_STYLE"),
    }


def test_no_page_is_written_in_an_f_string():
    pages = {path for path, _ in calls("html")}
    for path in pages:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
                assert not any(re.search(r"</?[a-z]", str(part)) for part in parts), (
                    f"{path.name}:{node.lineno}"
                )
