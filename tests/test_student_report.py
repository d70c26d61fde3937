"""The report's section on the student: its numbers are those of the run, and a browser draws both heat maps."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.methods import method_named
from crowdselect.report.data import ReportData
from crowdselect.report.report import SECTIONS, write_report
from test_student_marked import rows

pytestmark = pytest.mark.extra
NAME = "</script><img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A selection for a student with a name that tries to run code."""
    for name in ("altair", "vl_convert", "budoux"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: report)", exc_type=ImportError)
    place = tmp_path_factory.mktemp("student-report")
    named = [row | {"model": NAME if row["model"] == "tiny" else row["model"]} for row in rows()]
    pq.write_table(pa.Table.from_pylist(named), place / "pool.parquet")
    with open_pool(place / "pool.parquet") as pool:
        options = Options(budget=40, clusters=0)
        export(select(pool, options, method=method_named("teachable")), pool, place / "chosen")
        export(select(pool, options, method=method_named("reward")), pool, place / "other")
    return place


@pytest.fixture(scope="module")
def page(folder):
    with open_pool(folder / "pool.parquet") as pool:
        run = ReportData(load_selection(folder / "chosen"), pool)
        path, figures = write_report(run, folder / "report.html", method="pca")
        assert run.problems == []
    return path, figures


def gathered(folder, name, key):
    with open_pool(folder / "pool.parquet") as pool:
        section = next(section for section in SECTIONS if section.key == key)
        return section.gather(ReportData(load_selection(folder / name), pool))


def test_the_cells_are_those_of_the_table(folder, page):
    facts = load_selection(folder / "chosen").facts["student"]
    for name in ("pool", "chosen"):
        cells = page[1][f"student-{name}"].spec["data"]["values"]
        counts = np.array(facts["table"][name])
        assert [cell["rows"] for cell in cells] == counts.ravel().tolist()
        assert sum(cell["share"] for cell in cells) == pytest.approx(1)
        upper_left = counts[3:, :2].sum()
        assert f"with less than 40%: {upper_left:,} of {counts.sum():,} " in page[1][f"student-{name}"].says
    assert counts.sum() == 40


def test_the_page_says_who_it_is_and_what_it_can_already(folder, page):
    text = page[0].read_text()
    section = text[text.index('id="student"') : text.index('id="metrics"')]
    assert "&lt;/script&gt;&lt;img src=x onerror=window.hit=1&gt;" in section
    already = load_selection(folder / "chosen").facts["student"]["already"]
    assert f"already does as well on <b>{already}</b> of the 40 chosen" in section
    assert re.search(r'role="img" aria-label="The pool: Upper left', section)
    assert re.search(r'role="img" aria-label="The chosen: Upper left', section)


def test_it_is_no_teacher_and_no_member_of_the_crowd(folder):
    teachers = gathered(folder, "chosen", "teachers").figures["teachers"].spec["data"]["values"]
    assert not any(NAME[:10] in json.dumps(row) for row in teachers)
    crowd = gathered(folder, "chosen", "crowd")
    assert crowd.values["models"] == 3
    assert {row["model"] for row in crowd.figures["crowd"].spec["data"]["values"]} == {
        "ash-7b",
        "oak-1b",
        "oak-7b",
    }


def test_without_a_student_there_is_no_such_section(folder, tmp_path):
    assert gathered(folder, "other", "student") is not None  # marked, so it is shown for every method
    plain = [row for row in rows(marked=False) if row["model"] != "tiny"]
    pq.write_table(pa.Table.from_pylist(plain), tmp_path / "pool.parquet")
    with open_pool(tmp_path / "pool.parquet") as pool:
        export(select(pool, Options(budget=9, clusters=0)), pool, tmp_path / "chosen")
    assert gathered(tmp_path, "chosen", "student") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_both(page, scheme):
    pytest.importorskip("playwright", reason="playwright is not installed")
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        opened, said = browser.new_context(color_scheme=scheme).new_page(), []
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto(page[0].as_uri())
        opened.wait_for_selector("html[data-ready=yes]", timeout=30_000)
        opened.locator("#student").scroll_into_view_if_needed()
        for name in ("student-pool", "student-chosen"):
            opened.wait_for_selector(f"[data-chart={name}] svg, [data-chart={name}] canvas", timeout=30_000)
        assert opened.evaluate("window.hit") is None
        assert said == []
        browser.close()
