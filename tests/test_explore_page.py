"""The page of `explore` in a real browser: its controls, history, link, keys, marks; hostile texts do nothing."""

import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Crowd, Options, open_pool, select
from crowdselect.explorer.page import make_page
from crowdselect.explorer.payload import payload_of
from crowdselect.pool.sidecars import read_ids
from crowdselect.report.page import frame
from crowdselect.selection.methods import CROWD
from test_report_browser import ARGUMENTS, CHROMIUM, HOSTILE, Opened

pytestmark = pytest.mark.extra

N, CHOSEN = 240, 60
STUDENT = "</script>student"
MODELS = {
    "<img src=x onerror=window.hit=20>-7b": ("elm", 7),
    "'\"]};window.hit=21;//-14b": ("elm", 14),
    "__proto__": ("oak", 3),
    "constructor": ("oak", 70),
    STUDENT: ("ash", 1),
}
PAINTED = "document.getElementById('map-canvas')"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A hostile pool, a selection of it, and a page of each."""
    place = tmp_path_factory.mktemp("explore")
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"{i:03d}{text[:40]}",
            "instruction": f"{text[:2000]} number {i} {'word ' * (i % 7)}",
            "model": model,
            "response": f"{text[:300]} answered by {model} {j}" * (1 + i % 5),
            "</b>score": round(float(rng.normal() + 0.3 * j), 2),
        }
        for i in range(N)
        for text in [HOSTILE[i % len(HOSTILE)]]
        for j, model in enumerate(MODELS)
        if (i + j) % 9 or model == STUDENT
    ]
    file, crowd_file = place / "<b>po'ol.parquet", place / "crowd.json"
    pq.write_table(pa.Table.from_pylist(rows), file)
    crowd_file.write_text(
        json.dumps({name: {"family": family, "size_b": size} for name, (family, size) in MODELS.items()}),
        encoding="utf-8",
    )
    crowd = Crowd.from_file(crowd_file)
    options = Options(
        budget=CHOSEN, clusters=3, student=STUDENT, weights={"difficulty": 1, "separability": 1}, cache=False
    )
    with open_pool(file) as pool:
        saved = select(pool, replace(options, weights={"stability": 1}), crowd=crowd, method=CROWD)
        for name, before in (("page.html", saved), ("alone.html", None)):
            told = options if before else replace(options, clusters=0, student=None)
            found = payload_of(pool, told, crowd=crowd, crowd_file=str(crowd_file), saved=before)
            (place / name).write_text(make_page(found.head, found.packed), encoding="utf-8")
    (place / "saved.json").write_text(json.dumps(saved.chosen), encoding="utf-8")
    return place / "page.html"


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="playwright is not installed", exc_type=ImportError)
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


class Explored(Opened):
    """A page of `explore`."""

    def count(self, which: str) -> int:
        return int(self.page.locator(f"#{which}").inner_text().replace(",", ""))

    def settled(self) -> None:
        self.until("document.documentElement.dataset.ready === 'yes'")

    def weigh(self, number: int, weight: str) -> None:
        self.page.fill(f"#weight-{number}", weight)
        self.page.press(f"#weight-{number}", "Enter")
        self.settled()

    def row(self, number: str) -> str:
        """A number of the opened row."""
        cells = self.page.locator("#row-open .facts span").all_inner_texts()
        return cells[cells.index(number) + 1]

    @property
    def command(self) -> str:
        return self.page.locator("#command").inner_text()

    def clean(self) -> None:
        assert self.page.evaluate("window.hit") is None
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "blob:"))] == []


@pytest.fixture
def opened(browser, made):
    pages = []

    def open_page(fragment: str = "", **how):
        pages.append(Explored(browser, _At(made.as_uri() + fragment), **how))
        return pages[-1]

    yield open_page
    for each in pages:
        each.context.close()


class _At:
    """An address, in the place of a path."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def as_uri(self) -> str:
        return self.uri


def test_the_page_begins_with_the_choice_and_compares_it_with_the_saved_one(opened, made, tmp_path):
    page = opened()
    with page.page.expect_download() as saved:
        page.page.click("#save-ids")
    saved.value.save_as(tmp_path / "chosen.jsonl")
    chosen = read_ids(str(tmp_path / "chosen.jsonl"))
    before = set(json.loads((made.parent / "saved.json").read_text(encoding="utf-8")))
    assert page.count("chosen") == len(chosen) == CHOSEN
    assert page.count("came") == len(chosen - before) == page.count("went")
    assert page.count("both") == len(chosen & before)
    page.page.select_option("#show", "went")
    page.until(f"document.getElementById('count').textContent === '{len(before - chosen)} of {N} rows'")
    page.clean()


def test_a_weight_a_budget_clusters_and_the_answer_change_the_choice_and_the_command(opened):
    page = opened()
    before = page.count("both")
    page.weigh(0, "3.5")
    assert "difficulty=3.5" in page.command
    assert page.count("both") != before
    page.page.fill("#budget", "31")
    page.page.press("#budget", "Enter")
    page.settled()
    assert page.count("chosen") == 31
    assert page.page.locator("#budget-slider").input_value() == "31"
    page.page.uncheck("#clusters")
    page.page.select_option("#answer", "random")
    page.settled()
    assert "--weights difficulty=3.5,separability=1 --budget 31 --clusters 0 --answer random" in page.command
    page.clean()


def test_a_slider_is_followed_and_is_one_step_of_the_history(opened):
    page = opened()
    slider = page.page.locator("#weights input[type=range]").first
    slider.focus()
    page.page.keyboard.press("ArrowRight")
    page.settled()
    assert page.page.locator("#weight-0").input_value() == "1.25"
    assert "difficulty=1.25" in page.command
    slider.evaluate(
        "node => { for (const value of [2, 3, 4]) { node.value = value; node.dispatchEvent(new Event('input')); } node.dispatchEvent(new Event('change')); }"
    )
    page.settled()
    assert "difficulty=4" in page.command
    page.page.click("#undo")
    page.settled()
    assert "difficulty=1.25" in page.command
    page.clean()


def test_undo_and_redo_by_buttons_and_keys(opened):
    page = opened()
    assert page.page.is_disabled("#undo")
    assert page.page.is_disabled("#redo")
    commands = [page.command]
    for weight in ("2", "3"):
        page.weigh(1, weight)
        commands.append(page.command)
    page.page.keyboard.press("Control+z")
    page.settled()
    assert page.command == commands[1]
    assert page.page.locator("#weight-1").input_value() == "2"
    page.page.click("#undo")
    page.settled()
    assert page.command == commands[0]
    page.page.keyboard.press("Control+Shift+z")
    page.settled()
    page.page.keyboard.press("Control+y")
    page.settled()
    assert page.command == commands[2]
    assert page.page.is_disabled("#redo")
    page.page.click("#undo")
    page.weigh(0, "0")
    assert page.page.is_disabled("#redo")  # another way was taken
    page.page.click("#reset")
    page.settled()
    assert page.command == commands[0]
    page.clean()


def test_a_number_that_makes_no_sense_changes_nothing(opened):
    page = opened()
    before = page.command
    page.page.fill("#budget", "0")
    page.page.press("#budget", "Tab")
    page.settled()
    assert page.command == before
    assert page.page.locator("#budget").input_value() == str(CHOSEN)
    page.page.fill("#budget", "")
    page.page.press("#budget", "Tab")
    assert page.page.locator("#budget").input_value() == str(CHOSEN)
    page.clean()


def test_what_cannot_be_chosen_is_said_and_the_last_choice_stays(opened):
    page = opened()
    page.page.select_option("#add-band", "best_reward")
    page.page.locator("#bands input").last.fill("0%")  # the row with the lowest
    page.page.locator("#bands input").last.press("Enter")
    page.settled()
    problem = page.page.locator("#problem")
    assert problem.is_visible()
    assert "is more than can be chosen" in problem.inner_text()
    assert page.count("chosen") == CHOSEN
    assert page.page.is_disabled("#save-ids")
    page.page.click("#undo")
    page.settled()
    assert problem.is_hidden()
    assert page.page.is_enabled("#save-ids")
    page.clean()


def test_a_band_is_added_changed_and_removed(opened):
    page = opened()
    before = page.command
    page.page.select_option("#add-band", "best_reward")
    page.settled()
    assert page.command == before  # it is open at both ends
    low, high = page.page.locator("#bands input").all()
    low.fill("0.4")
    low.press("Enter")
    page.settled()
    high.fill("nothing")
    high.press("Tab")
    assert page.page.locator("#bands input:invalid").count() == 1
    assert "--keep best_reward=0.4.." in page.command
    page.page.select_option("#order", "lowest best_reward")
    page.page.select_option("#show", "chosen")
    page.page.locator(".grid-row").first.click()
    assert float(page.row("best_reward")) >= 0.4
    page.page.keyboard.press("Escape")
    page.page.select_option("#show", "others")
    page.page.locator(".grid-row").first.click()
    assert float(page.row("best_reward")) < 0.4
    assert "its best_reward lies outside the band" in page.page.locator("#row-title").inner_text()
    page.page.keyboard.press("Escape")
    page.page.locator("#bands button").click()
    page.settled()
    assert page.command == before
    page.clean()


def test_the_fragment_reproduces_the_setting_and_a(opened):
    page = opened()
    page.page.click("#keep")
    page.weigh(0, "-2")
    page.page.select_option("#add-band", "best_reward")
    page.page.locator("#bands input").nth(0).fill("10%")
    page.page.locator("#bands input").nth(0).press("Enter")
    page.settled()
    fragment = page.page.evaluate("location.hash")
    again = opened(fragment)
    assert again.command == page.command
    for which in ("chosen", "came", "went", "both"):
        assert again.count(which) == page.count(which)
    assert again.page.locator("#against").input_value() == "a"
    assert again.page.evaluate("location.hash") == fragment
    again.page.evaluate(
        "location.hash = '#method=crowd&budget=17&weight=difficulty%3D1&answer=best&clusters=no'"
    )
    again.until("document.getElementById('chosen').textContent === '17'")
    again.clean()


def test_a_link_that_names_what_is_not_there_says_so(opened):
    page = opened(
        "#method=crowd&budget=12&weight=beauty%3D1&weight=difficulty%3D2&keep=%3Cimg%3E%3D1..2&answer=best&clusters=no"
    )
    assert page.count("chosen") == 12
    said = page.page.locator("#saved").inner_text()
    assert "weight beauty=1" in said
    assert "keep <img>=1..2" in said
    page.clean()


def test_two_settings_side_by_side(opened):
    page = opened()
    page.page.click("#keep")
    page.weigh(0, "4")
    assert page.page.locator("#differs").inner_text() == "From A to B: difficulty 1 \u2192 4."
    heads = page.page.locator("#figures thead th").all_inner_texts()
    assert heads[1:4] == ["B, now", "A", "the saved choice"]
    mean = float(page.page.locator("#figures tbody tr").nth(1).locator("td").nth(0).inner_text())
    assert mean > float(page.page.locator("#figures tbody tr").nth(1).locator("td").nth(1).inner_text())
    came = page.count("came")
    page.page.click("#swap")
    page.settled()
    assert "difficulty=1," in page.command
    assert page.count("came") == came
    page.page.click("#drop")
    assert page.page.locator("#against").input_value() == "first"
    assert page.page.locator("#swap").is_hidden()
    page.clean()


def test_only_lines_in_sight_exist_and_search_finds_texts_and_ids(opened):
    page = opened()
    box = page.page.locator("#window")
    box.scroll_into_view_if_needed()
    page.until(f"document.getElementById('count').textContent === '{N} of {N} rows'")
    assert 10 < page.page.locator(".grid-row").count() < 40
    box.evaluate("node => { node.scrollTop = node.scrollHeight; }")
    page.until(f"document.querySelector('.grid-row:last-child').getAttribute('aria-rowindex') === '{N}'")
    page.page.fill("#search", "number 239")
    page.until(f"document.getElementById('count').textContent.startsWith('1 of {N}')")
    page.page.fill("#search", "onerror=window.hit=3")
    page.until("document.querySelector('.grid-row .snip').textContent.includes('onerror')")
    assert "<img src=x onerror=window.hit=3>" in page.page.locator(".grid-row .snip").first.inner_text()
    page.page.fill("#search", "no such words anywhere")
    page.until("document.querySelectorAll('.grid-row').length === 0")
    page.clean()


def test_everything_works_by_keyboard(opened):
    """From the first weight to a marked row, without a pointer."""
    page = opened()
    keys = page.page.keyboard

    def tab_to(target: str, most: int = 60) -> None:
        for _ in range(most):
            keys.press("Tab")
            if page.page.evaluate("document.activeElement.id") == target:
                return
        raise AssertionError(target)

    tab_to("weight-0")
    keys.press("Control+a")
    keys.type("2")
    keys.press("Enter")
    page.settled()
    assert "difficulty=2" in page.command
    tab_to("came-all")
    keys.press("Enter")
    assert page.page.evaluate("document.activeElement.id") == "window"
    assert page.page.locator("#count").inner_text().startswith(f"{page.count('came')} of")
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    active = page.page.evaluate("document.getElementById('window').getAttribute('aria-activedescendant')")
    assert active == "line-2"
    keys.press("Enter")
    page.page.wait_for_selector("dialog[open]")
    assert page.page.locator("#row-place").inner_text() == f"3 of {page.count('came')}"
    keys.press("ArrowRight")
    keys.press("m")
    assert page.page.locator("#row-mark").inner_text() == "Unmark"
    keys.press("Escape")
    page.page.wait_for_selector("dialog:not([open])", state="attached")
    assert page.page.evaluate("document.activeElement.id") == "window"
    assert page.page.locator("#marked").inner_text() == "1 row marked as bad"
    keys.press("End")
    keys.press("m")
    assert page.page.locator("#marked").inner_text() == "2 rows marked as bad"
    page.clean()


def test_every_control_has_a_name_and_focus_is_seen(opened):
    page = opened()
    page.page.select_option("#add-band", "best_reward")
    nameless = page.page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas, [tabindex]")]
            .filter((node) => !(node.getAttribute("aria-label") || node.labels?.length || node.textContent.trim()))
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    page.page.locator("#undo").focus()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.weigh(0, "3")
    page.until(
        "/chosen; against the saved choice \\d+ came in/.test(document.getElementById('said').textContent)"
    )
    page.clean()


def test_ids_options_and_marks_are_saved_as_files(opened, tmp_path):
    page = opened()
    with page.page.expect_download() as saved:
        page.page.click("#save-options")
    saved.value.save_as(tmp_path / saved.value.suggested_filename)
    step = tomllib.loads((tmp_path / "select.toml").read_text(encoding="utf-8"))["select"][0]
    assert step["budget"] == CHOSEN
    assert step["weights"] == {"difficulty": 1, "separability": 1}
    with page.page.expect_download() as saved:
        page.page.click("#save-ids")
    saved.value.save_as(tmp_path / "chosen.jsonl")
    chosen = read_ids(str(tmp_path / "chosen.jsonl"))
    page.page.locator("#rows").scroll_into_view_if_needed()
    page.page.locator("#window").focus()
    page.until("document.querySelectorAll('.grid-row').length > 0")
    page.page.keyboard.press("m")
    with page.page.expect_download() as saved:
        page.page.click("#save-marks")
    saved.value.save_as(tmp_path / "marked.jsonl")
    marked = read_ids(str(tmp_path / "marked.jsonl"))
    assert len(marked) == 1
    assert marked <= chosen
    page.page.click("#unmark")
    assert page.page.locator("#marks").is_hidden()
    page.clean()


def test_hostile_names_and_texts_are_texts_everywhere(opened):
    page = opened()
    for section in (
        "changes",
        "sides",
        "numbers",
        "map",
        "clusters-section",
        "teachers",
        "lengths",
        "student",
        "rows",
    ):
        page.page.locator(f"#{section}").scroll_into_view_if_needed()
        page.page.wait_for_timeout(60)
    page.page.locator(".grid-row").first.click()
    for _ in range(len(HOSTILE)):
        page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Escape")
    for model in MODELS:
        assert (model in page.page.locator("#teachers-table").inner_text()) == (model != STUDENT), model
    assert f"The student is {STUDENT}." in page.page.locator("#student-words").inner_text()
    assert page.page.title() == "What if? <b>po'ol.parquet"
    for tag in ("img", "iframe", "object", "style", "main script", "a[href^='javascript']", "h1 b"):
        assert page.page.locator(f"body {tag}").count() == 0, tag
    assert (
        page.page.locator("body script").count() == 3
    )  # the data, the engine and the page; the bytes are gone
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


def test_the_map_tells_opens_moves_and_follows_the_theme(opened):
    page = opened()
    canvas = page.page.locator("#map-canvas")
    canvas.scroll_into_view_if_needed()
    empty = "document.createElement('canvas')"
    blank = f"Object.assign({empty}, {{ width: {PAINTED}.width, height: {PAINTED}.height }}).toDataURL()"
    page.until(f"document.getElementById('map-both').textContent && {PAINTED}.toDataURL() !== {blank}")
    page.page.wait_for_timeout(200)  # the size of the canvas is observed
    before = page.page.evaluate(f"{PAINTED}.toDataURL()")
    changed, same = (f"{PAINTED}.toDataURL() {how} {json.dumps(before)}" for how in ("!==", "==="))
    canvas.focus()
    page.page.keyboard.press("+")
    page.until(changed)
    page.page.click("#map-whole")
    page.until(same)
    page.page.emulate_media(color_scheme="dark")
    page.until(changed)
    box = canvas.bounding_box()
    tip = page.page.locator("#tip")
    for step in range(400):
        page.page.mouse.move(
            box["x"] + box["width"] * (0.3 + step % 20 / 50),
            box["y"] + box["height"] * (0.1 + step // 20 / 25),
        )
        if tip.is_visible():
            break
    assert "id" in tip.inner_text()
    page.page.mouse.down()
    page.page.mouse.up()
    page.page.wait_for_selector("dialog[open]")
    page.clean()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_an_opened_row_shows_its_texts_first_and_how_its_score_came_about(opened, width, height):
    page = opened(width=width)
    page.page.set_viewport_size({"width": width, "height": height})
    page.weigh(0, "2.5")
    page.page.locator("#rows").scroll_into_view_if_needed()
    page.page.select_option("#order", "highest length")
    page.page.select_option("#show", "chosen")
    page.page.locator(".grid-row").first.click()
    labels = page.page.locator("#row-open .lab").all_inner_texts()
    assert [label.split()[0] for label in labels] == ["Instruction", "Answer", "Score"]
    assert float(labels[1].rpartition(", reward ")[2]) == float(page.row("best_reward"))
    _, answer = page.page.locator("#row-open .text").all()
    box = answer.bounding_box()
    assert box["y"] + box["height"] < height
    page.page.locator("#row-open button").last.click()
    assert answer.bounding_box()["height"] > box["height"]
    score = float(labels[2].split(",")[0].removeprefix("Score "))
    added = re.findall(r"adds (\S+?);?\s", page.page.locator("#row-open .facts").inner_text() + "\n")
    assert len(added) == 2
    assert sum(float(each.replace("\u2212", "-")) for each in added) == pytest.approx(score, abs=2e-3)
    assert re.search(r"The last place of cluster .* went to ", labels[2])
    page.page.keyboard.press("ArrowRight")
    assert page.page.locator("#row-place").inner_text().startswith("2 of")
    page.clean()


def test_parts_out_of_sight_never_show_another_choice(opened):
    page = opened()
    stale = "[...document.querySelectorAll('section[aria-busy] > :not(h2)')]"
    page.weigh(0, "4")
    assert page.page.evaluate(f"{stale}.every((node) => getComputedStyle(node).visibility === 'hidden')")
    page.until(f"{stale}.length === 0")  # without scrolling
    assert page.page.evaluate("scrollY") == 0
    rows = page.page.locator("#teachers-table tbody td:nth-child(2)").all_text_contents()
    assert sum(int(each) for each in rows) == CHOSEN
    page.weigh(0, "-4")
    page.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.page.evaluate(f"{stale}.length") == 0
    page.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways(opened, scheme):
    page = opened(width=390, scheme=scheme)
    page.page.click("#keep")
    page.weigh(0, "3")
    page.page.select_option("#add-band", "best_reward")
    for section in ("changes", "sides", "map", "clusters-section", "student", "rows"):
        page.page.locator(f"#{section}").scroll_into_view_if_needed()
        page.page.wait_for_timeout(60)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 390, section
    page.page.locator(".grid-row").first.click()
    assert page.page.locator("#row").bounding_box()["width"] <= 390
    page.clean()


def test_without_a_saved_choice_the_first_one_is_compared_with(browser, made):
    opened = Explored(browser, made.with_name("alone.html"))
    assert opened.count("came") == opened.count("went") == 0
    for part in ("map", "clusters-section", "student"):
        assert opened.page.locator(f"#{part}").is_hidden()
        assert opened.page.locator(f"[data-section={part}]").is_hidden()
    assert opened.page.locator("#against option").inner_text() == "the starting choice"
    opened.weigh(0, "4")
    assert opened.count("came") > 0
    opened.clean()
    opened.context.close()


def test_clusters_that_no_command_makes_again_are_saved_as_a_file(opened, tmp_path):
    page = opened()
    assert page.page.locator("#clusters-file").is_hidden()
    page.page.select_option("#add-band", "difficulty")
    page.page.locator("#bands input").first.fill("50%")
    page.page.locator("#bands input").first.press("Enter")
    page.settled()
    name = page.page.locator("#clusters-file-name").inner_text()
    assert f"--metrics {name}" in page.command
    with page.page.expect_download() as saved:
        page.page.click("#save-clusters")
    assert saved.value.suggested_filename == name
    saved.value.save_as(tmp_path / name)
    assert len((tmp_path / name).read_text(encoding="utf-8").splitlines()) == N
    page.clean()


def test_it_works_in_a_frame_as_in_a_notebook(browser, made, tmp_path):
    place = tmp_path / "notebook.html"
    shown = frame(made.read_text(encoding="utf-8"), title="a page")
    place.write_text(
        f'<!doctype html><html data-ready="yes"><meta charset="utf-8"><body>{shown}', encoding="utf-8"
    )
    opened = Explored(browser, place)
    inner = opened.page.frames[1]
    inner.wait_for_selector("html[data-ready=yes]")
    before = inner.locator("#command").inner_text()
    inner.fill("#weight-0", "4")
    inner.press("#weight-0", "Enter")
    inner.wait_for_selector("html[data-ready=yes]")
    assert inner.locator("#command").inner_text() != before
    assert inner.locator("#copy-link").is_hidden()  # it has no address
    inner.locator("[data-section=rows]").click()
    inner.locator(".grid-row").first.click()
    assert "of the eligible rows, weight 4 adds +" in inner.locator("#row-open .facts").inner_text()
    assert inner.evaluate("window.hit") is None
    opened.clean()
    opened.context.close()


def test_a_page_that_is_not_whole_says_so(browser, made, tmp_path):
    place = tmp_path / "page.html"
    whole = made.read_text(encoding="utf-8")
    begin = whole.index('id="packed">') + len('id="packed">')
    end = whole.index("</script>", begin)
    place.write_text(whole[: begin + (end - begin) // 8 * 4] + whole[end:], encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto(place.as_uri())
    said = page.locator("#opening")
    said.filter(has_text="cannot be read").wait_for()
    assert page.locator("#explore").is_hidden()
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_scrolled_to_does_not_lie_under_the_counts(opened, width):
    page = opened()
    page.page.set_viewport_size({"width": width, "height": 700})
    places = page.page.evaluate(
        """() => ["#teachers", "#teachers-table"].map((which) => {
          scrollTo({ top: 0, behavior: "instant" });
          document.querySelector(which).scrollIntoView({ behavior: "instant" });
          const edge = (of, side) => document.querySelector(of).getBoundingClientRect()[side];
          return [edge(which, "top"), edge(".tally", "bottom")];
        })"""
    )
    assert all(0 < bottom <= top for top, bottom in places), places
    page.clean()
