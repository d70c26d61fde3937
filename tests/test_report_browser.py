"""The report in a real browser, made from a pool that tries everything: no script of it runs, nothing leaves."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.extra

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = [
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script>",
    "<img src=x onerror=window.hit=3>",
    "<svg/onload=window.hit=4><style>*{display:none}</style> a beginning that is longer than a line",
    "null \x00 byte and \x1b[31m escape",
    "\u202eright to left override \u2066 isolate \u200f mark",
    "x" * 100_000,
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 emoji \U0001f1ef\U0001f1f5",
    "# Markdown **bold** [link](javascript:window.hit=5) `code`",
    "datum.x + constructor.constructor('window.hit=6')()",
    '{"signal": "window.hit = 7"}',
    "\\u003cscript\\u003e &lt;b&gt; ${window.hit=8} {{7*7}} <!-- ]]> -->",
    "https://example.invalid/picture.png",
    "javascript:window.hit=9",
]
CHOSEN = 70
REWARD = "</script><b>sc'or\"e"
MODELS = {
    "<img src=x onerror=window.hit=10>-7b": ("</script>fam", 7),
    "'\"]};window.hit=11;//-14b": ("</script>fam", 14),
    "datum['x']-3b": ('{"expr":"window.hit=12"}', 3),
    "__proto__": ('{"expr":"window.hit=12"}', 72),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hostile pool, a selection of it, and its report."""
    for name in ("altair", "vl_convert", "playwright"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    from crowdselect import Crowd, Options, export, load_selection, open_pool, select
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import write_report

    place = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"{i:03d}{text[:40]}",
            "instruction": f"{text} number {i} {'word ' * (i % 7)}",
            "model": model,
            "response": f"{text} answered by {model} {j}",
            REWARD: float(rng.normal() + j * 0.5),
        }
        for i in range(84)
        for text in [HOSTILE[i % len(HOSTILE)]]
        for j, model in enumerate(MODELS)
        if (i + j) % 9
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "pool.parquet")
    crowd = {name: {"family": family, "size_b": size} for name, (family, size) in MODELS.items()}
    (place / "crowd.json").write_text(json.dumps(crowd), encoding="utf-8")
    with open_pool(place / "pool.parquet") as pool:
        options = Options(budget=CHOSEN, clusters=3, cache=False)
        export(select(pool, options, crowd=Crowd.from_file(place / "crowd.json")), pool, place / "chosen")
        write_report(ReportData(load_selection(place / "chosen"), pool), place / "report.html", method="pca")
    return place / "report.html"


@pytest.fixture(scope="module")
def browser(made):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


class Opened:
    """A page, and everything it did that it should not."""

    def __init__(self, browser, made: Path, *, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(30_000)  # a busy machine draws slowly
        self.page.goto(made.as_uri())
        self.page.wait_for_selector("html[data-ready=yes]", timeout=30_000)

    def until(self, expression: str) -> None:
        """Wait for something; playwright's own way needs an eval in the page, which the policy forbids."""
        for _ in range(100):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(expression)

    def clean(self) -> None:
        assert self.page.evaluate("window.hit") is None
        assert self.said == []
        assert [url for url in self.asked if not url.startswith("file:")] == []
        assert len(self.asked) == 1


@pytest.fixture
def opened(browser, made):
    pages = []

    def open_page(**how):
        pages.append(Opened(browser, made, **how))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()


def test_nothing_of_the_pool_runs_and_nothing_leaves(opened):
    page = opened()
    for row in page.page.locator("ol.rows details").all():
        row.evaluate("node => { node.open = true; }")
    page.page.wait_for_timeout(200)
    assert page.page.locator("ol.rows .open").count() >= 25
    assert page.page.locator("body script").count() == 3  # the data and our two
    for tag in (
        "img",
        "b:text-matches('^sc.or')",  # of the reward's name
        "iframe",
        "object",
        "style",
        "main script",
        "a[href^='javascript']",
    ):
        assert page.page.locator(f"body {tag}").count() == 0, tag
    page.clean()


def test_the_policy_holds_even_against_a_script_that_got_in(opened):
    page = opened()
    blocked = page.page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
            const script = document.createElement("script");
            script.textContent = "window.hit = 99";
            document.body.append(script);
            setTimeout(() => done("nothing"), 1000);
        })"""
    )
    assert blocked.startswith("script-src")
    assert page.page.evaluate("window.hit") is None


def test_charts_are_drawn_with_marks(opened):
    page = opened()
    drawn = {
        plot.get_attribute("data-chart"): plot.locator("svg .role-mark path, svg .role-mark rect").count()
        for plot in page.page.locator("[data-chart]").all()
    }
    names = {
        "crowd",
        "coverage",
        "difficulty",
        "separability",
        "stability",
        "correlations",
        "map",
        "teachers",
    }
    assert names | {"instruction-length", "answer-length"} <= set(drawn)
    assert all(count > 0 for count in drawn.values()), drawn
    assert drawn["map"] >= 60
    page.clean()


def test_search_finds_hostile_text_as_text(opened):
    page = opened()
    page.page.fill("#search", "onerror=window.hit=3")
    page.until("!document.getElementById('count').textContent.startsWith('70 ')")
    found = page.page.locator("#found > li")
    assert 0 < found.count() < CHOSEN
    assert all("onerror=window.hit=3" in text for text in found.locator(".snip").all_inner_texts())
    found.first.locator("summary").click()
    opened_row = found.first.locator(".open")
    assert "<img src=x onerror=window.hit=3>" in opened_row.locator(".text").first.inner_text()
    assert opened_row.locator(".why").inner_text().startswith("Chosen: place ")
    page.page.fill("#search", "no such words anywhere")
    page.until("document.querySelectorAll('#found > li').length === 0")
    page.clean()


def test_rows_of_one_template_show_where_they_differ(opened):
    page = opened()
    page.page.fill("#search", "onload=window.hit=4")
    page.until("!document.getElementById('count').textContent.startsWith('70 ')")
    lines = page.page.locator("#found .snip").all_inner_texts()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"\u2026 \d+( word)* ?", line) for line in lines), lines
    page.page.fill("#search", "emoji")
    page.until("document.querySelector('#found .snip').textContent.includes('emoji')")
    page.clean()


def test_order_and_cluster_change_the_list(opened):
    page = opened()
    page.page.select_option("#cluster", index=1)
    few = page.page.locator("#found > li").count()
    assert 0 < few < CHOSEN
    page.page.select_option("#cluster", index=0)
    page.page.select_option("#order", "length")
    assert "xxxx" in page.page.locator("#found .snip").first.inner_text()
    page.page.locator("#more").click()
    page.page.locator("#more").click()
    assert page.page.locator("#found > li").count() == CHOSEN
    page.clean()


def test_long_texts_are_cut_with_a_note_and_odd_characters_are_named(opened):
    page = opened()
    page.page.select_option("#order", "length")
    row = page.page.locator("#found > li").first
    row.locator("summary").click()
    assert re.search(r"cut here: 100,0\d\d characters in the pool", row.locator(".cut").first.inner_text())
    page.page.fill("#search", "right to left override")
    page.until("!document.getElementById('count').textContent.startsWith('70 ')")
    assert "U+202E" in page.page.locator("#found .snip").first.inner_text()
    page.page.fill("#search", "null")
    page.until("document.querySelector('#found .snip').textContent.includes('null')")
    assert (
        "null \ufffd byte" in page.page.locator("#found .snip").first.inner_text()
    )  # repaired when it was read
    page.clean()


def test_hover_tells_and_changes_of_colour_and_theme_redraw(opened):
    page = opened(scheme="dark")
    chart = page.page.locator('[data-chart="map"]')
    chart.scroll_into_view_if_needed()
    tip = page.page.locator("#tip")
    for _ in range(40):  # charts above may still be drawn, and move this one from under the pointer
        page.page.mouse.move(0, 0)
        chart.locator("svg .role-mark path").last.hover(force=True)
        if tip.is_visible():
            break
        page.page.wait_for_timeout(250)
    tip.wait_for(state="visible")
    assert "id" in tip.inner_text()
    assert "number" in tip.inner_text()
    page.page.select_option("select[data-colours=map]", "difficulty")
    page.until("document.querySelector('[data-chart=map] .role-legend')?.textContent.includes('difficulty')")
    assert chart.get_attribute("data-drawn") == "dark"
    page.page.emulate_media(color_scheme="light")
    page.page.wait_for_selector('[data-chart="answer-length"][data-drawn="light"]')
    page.clean()


def test_a_click_on_the_map_shows_the_row(opened):
    page = opened()
    chart = page.page.locator('[data-chart="map"]')
    chart.scroll_into_view_if_needed()
    place = page.page.locator("#point")
    assert place.is_hidden()
    chart.locator("svg .role-mark path").last.dispatch_event("click")
    place.wait_for(state="visible")
    assert place.locator(".why").inner_text().startswith(("Chosen: place ", "Not chosen: place "))
    assert "number" in place.locator(".text").first.inner_text()
    page.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(opened, scheme):
    page = opened(width=390, scheme=scheme)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.page.locator("[data-chart] svg").count() >= 8
    page.clean()


def test_marked_rows_are_saved_as_a_list_for_select(opened, tmp_path, made, run):
    """A row is the same in every list; the file holds ids as they are, whatever is in them."""
    from crowdselect import load_selection
    from crowdselect.pool.sidecars import read_ids

    page = opened()
    bar = page.page.locator("#marks")
    assert bar.is_hidden()
    for place in (1, 4):
        row = page.page.locator("#found > li").nth(place)
        row.locator("summary").click()
        row.locator("button.mark").click()
    assert bar.locator("#marked").inner_text() == "2 rows marked"
    first = page.page.locator("#found > li").nth(1)
    assert first.locator("button.mark").inner_text() == "Unmark"
    page.page.fill("#search", "number")  # the list is built anew
    page.until("document.querySelectorAll('#found > li.marked').length === 2")
    with page.page.expect_download() as saved:
        page.page.locator("#save").click()
    assert saved.value.suggested_filename == "marked.jsonl"
    saved.value.save_as(tmp_path / "marked.jsonl")
    chosen = load_selection(made.parent / "chosen").chosen
    assert read_ids(str(tmp_path / "marked.jsonl")) == {chosen[1], chosen[4]}
    pool = load_selection(made.parent / "chosen").facts["pool"]
    words = ("select", pool, "--reward", REWARD, "--weights", "difficulty=1", "--clusters", 0)
    listed = tmp_path / "marked.jsonl"
    assert run(*words, "--budget", 2, "--include", listed, "-o", tmp_path / "only").code == 0
    assert set(load_selection(tmp_path / "only").chosen) == {chosen[1], chosen[4]}
    assert run(*words, "--budget", CHOSEN, "--exclude", listed, "-o", tmp_path / "without").code == 0
    assert not {chosen[1], chosen[4]} & set(load_selection(tmp_path / "without").chosen)
    row = page.page.locator("#found > li.marked").first
    row.locator("summary").click()
    row.locator("button.mark").click()
    assert bar.locator("#marked").inner_text() == "1 row marked"
    page.page.locator("#unmark").click()
    assert bar.is_hidden()
    assert page.page.locator(".marked").count() == 0
    assert page.page.evaluate("window.hit") is None
    assert page.said == []
    assert {url for url in page.asked if not url.startswith(("file:", "blob:"))} == set()


def test_a_point_of_the_map_can_be_marked(opened):
    page = opened()
    chart = page.page.locator('[data-chart="map"]')
    chart.scroll_into_view_if_needed()
    chart.locator("svg .role-mark path").last.dispatch_event("click")
    page.page.locator("#point button.mark").click()
    assert page.page.locator("#marked").inner_text() == "1 row marked"
    page.clean()
