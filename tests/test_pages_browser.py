"""Every kind of page in a real browser, with names that try everything: nothing runs, nothing leads away, nothing leaves."""

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from test_report_browser import ARGUMENTS, CHROMIUM

pytestmark = pytest.mark.extra

META = '<meta http-equiv=refresh content="0;url=https://evil.example/">'
IMAGE = '"><img src=x onerror="window.hit=1">'
SCRIPT = "</script></title></style><script>window.hit=2</script>"
LINK = "'><a href='javascript:window.hit=3' autofocus onfocus=window.hit=4>x</a><!--"
NAMES = [META, IMAGE, SCRIPT, LINK]
FILE = IMAGE.replace('"', "'")  # a name that a file may have
PAGES = [
    *("report", "compare", "robustness", "evaluate-compare", "recipe", "card", "model-card"),
    *("crowd.svg", "correlations.svg", "teachers.svg"),
]
ALLOWED = {
    *[
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "footer",
        "nav",
        "section",
        "article",
        "p",
        "h1",
        "h2",
        "h3",
        "b",
        "small",
        "span",
        "ul",
        "ol",
        "li",
        "a",
    ],
    *[
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "svg",
        "rect",
        "circle",
        "line",
        "g",
        "text",
        "details",
        "summary",
        "dl",
        "dt",
        "dd",
        "figure",
        "figcaption",
    ],
    *[
        "select",
        "option",
        "label",
        "input",
        "button",
        "script",
        "noscript",
        "img",
        "code",
        "hr",
        "em",
        "strong",
    ],
}


def write_pool(place: Path) -> Path:
    rng = np.random.default_rng(0)
    models = [f"{name}-{size}b" for name, size in zip(NAMES, (3, 7, 14, 72), strict=True)]
    rows = [
        {
            "id": f"{i:03d}{NAMES[i % 4]}",
            "instruction": f"{NAMES[i % 4]} number {i}",
            "model": model,
            "response": f"{NAMES[i % 4]} by {model}",
            META: NAMES[i % 3],
            SCRIPT: float(rng.normal() + j),
            LINK: float(rng.normal() + j),
        }
        for i in range(60)
        for j, model in enumerate(models)
    ]
    path = place / f"{FILE}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    ids = sorted({row["id"] for row in rows})
    columns = {name: rng.normal(size=len(ids)) for name in NAMES}
    pq.write_table(pa.table({"id": ids, **columns}), place / f"{FILE}.metrics.parquet")
    (place / f"{FILE}.txt").write_text("\n".join(ids), encoding="utf-8")
    crowd = {model: {"family": NAMES[j % 2], "size_b": 3.0 + 4 * j} for j, model in enumerate(models)}
    (place / "crowd.json").write_text(json.dumps(crowd), encoding="utf-8")
    return path


def select_and_report(place: Path) -> None:
    from crowdselect import Crowd, Options, export, load_selection, open_pool, select
    from crowdselect.compare.robustness import robustness, robustness_page
    from crowdselect.compare.selections import compare, comparison_page
    from crowdselect.report.chartspec import write_figures
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import write_report

    path = write_pool(place)
    crowd = Crowd.from_file(place / "crowd.json")
    folders = []
    for number, name in enumerate([FILE, META.replace("/", ":")]):
        options = Options(
            budget=20 + number,
            reward=SCRIPT,
            metrics=str(place / f"{FILE}.metrics.parquet"),
            weights={"difficulty": 1.0, **dict.fromkeys(NAMES, 0.5)},
            cluster_by=META,
            include=str(place / f"{FILE}.txt"),
            cache=False,
        )
        folders.append(place / name)
        with open_pool(path) as pool:
            export(select(pool, options, crowd=crowd), pool, folders[-1], license=META)
    with open_pool(path) as pool:
        run = ReportData(load_selection(folders[0]), pool)
        _, found = write_report(run, place / "report.html", method="pca")
        write_figures(found, place / "figures")
        options = Options(budget=20, reward=SCRIPT, cluster_by=META, cache=False)
        page = robustness_page(robustness(pool, options, crowd=crowd, bootstraps=3, seeds=1, clusters=(0,)))
        (place / "robustness.html").write_text(page, encoding="utf-8")
    page = comparison_page(compare([str(one) for one in folders], draws=5, mixes=[META], pool=str(path)))
    (place / "compare.html").write_text(page, encoding="utf-8")


def evaluate_and_recipe(place: Path) -> None:
    from crowdselect.evaluate.comparison import Difference, MethodComparison, MethodScore
    from crowdselect.evaluate.comparison_page import comparison_page
    from crowdselect.recipe.page import results_page

    standings = [MethodScore(name, 2, 9, 5.0, (4.0, 6.0), 4.5, 5.5) for name in NAMES]
    differences = [Difference(META, IMAGE, 9, 5, 0, 1.0, (0.5, 3.0), 0.01, 0.02, SCRIPT)]
    found = MethodComparison("mt-bench", META, IMAGE, SCRIPT, 0, standings, differences, NAMES)
    (place / "evaluate-compare.html").write_text(comparison_page(found), encoding="utf-8")
    hostile = {"wanted": 9, "of": IMAGE, "missing": 1, "score": 5.0, "interval": (4.0, 6.0), "folder": LINK}
    one = {"one": META, "other": IMAGE, "difference": 1.0, "interval": (0.5, 3.0), "verdict": "higher"}
    one |= {"questions": 9, "differing": 5, "p_holm": 0.02}
    losses = {"last_loss": 1.0, "eval_loss_before": 2.0, "eval_loss": 1.5}
    run = {
        "run": META,
        "model": LINK,
        "rows": 9,
        "losses": losses,
        "results": {SCRIPT: hostile},
        "warnings": NAMES,
    }
    standing = {
        "name": META,
        "runs": 2,
        "questions": 9,
        "score": 5.0,
        "interval": None,
        "lowest": 1.0,
        "highest": 2.0,
    }
    results = {
        "recipe": META,
        "runs": [run, {**run, "losses": None}],
        "selections": [
            {"selection": name, "simulated": True, "rows": 9, "folder": LINK, "report": META, "figures": {"difficulty": 1.0}, "beyond_random": {"difficulty": 1}}
            for name in NAMES
        ],
        "steps": [
            {"step": name, "command": "compare", "state": state, "made_now": False, "seconds": 1.0, "output": LINK, "log": META}
            for name, state in zip(NAMES, ("failed", "left out", "incomplete", "done"), strict=True)
        ],
        "differences": [
            {"benchmark": SCRIPT, "against": IMAGE, "unit": LINK, "of": META, "standings": [standing], "differences": [one], "notes": NAMES, "page": LINK}
        ],
    }  # fmt: skip
    (place / "recipe.html").write_text(results_page(results), encoding="utf-8")


def cards(place: Path) -> None:
    """Show cards as a hub does: Markdown with HTML in it."""
    from crowdselect.train.job import model_card
    from crowdselect.train.settings import TrainSettings

    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    settings = TrainSettings(objective="sft")
    plan = SimpleNamespace(
        model=META, settings=settings, rows=9, warnings=NAMES, processes=1, steps=3, stop=IMAGE
    )
    plan.held_out = plan.cut = plan.dropped = plan.tokens = 0
    manifest = {"version": "0", "versions": {"trl": "1", IMAGE: META}, "losses": {SCRIPT: 1.0}}
    manifest["data"] = {"fingerprint": LINK}
    facts = {"pool": f"/x/{FILE}", "reward": SCRIPT, "fingerprint": LINK}
    selection = {"facts": facts, "options": {"method": META, "weights": {IMAGE: 1}}, "version": LINK}
    texts = {
        "card": (place / FILE / "README.md").read_text(encoding="utf-8"),
        "model-card": model_card(plan, manifest, selection),
    }
    for name, text in texts.items():
        _, _, body = text.removeprefix("---\n").partition("\n---\n")
        (place / f"{name}.html").write_text(
            f"<!doctype html><meta charset=utf-8><title>x</title><main>{markdown.render(body)}</main>",
            encoding="utf-8",
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    for name in ("altair", "vl_convert", "playwright"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    place = tmp_path_factory.mktemp("pages")
    select_and_report(place)
    evaluate_and_recipe(place)
    cards(place)
    return place


@pytest.fixture(scope="module")
def browser(made):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


class Elements(HTMLParser):
    """Every element and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.refreshes = self.away = 0

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.attributes |= set(given)
        self.refreshes += (given.get("http-equiv") or "").lower() == "refresh"
        places = [value or "" for name, value in attrs if name in {"href", "src", "action"}]
        self.away += sum(not value.startswith(("#", "./", "data:image/", "loss.png")) for value in places)


@pytest.mark.parametrize("name", PAGES)
def test_names_act_nowhere(browser, made, name):
    path = made / "figures" / name if name.endswith(".svg") else made / f"{name}.html"
    asked, said = [], []
    context = browser.new_context()
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    if name == "report":
        page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
    page.wait_for_timeout(500)
    assert page.url == path.as_uri()  # nothing led away
    allowed = {path.as_uri(), (made / "loss.png").as_uri()}
    assert {url for url in asked if not url.startswith("data:image/")} <= allowed
    assert said == []
    assert page.evaluate("window.hit") is None
    shown = page.evaluate("document.documentElement.textContent")
    assert "onerror=" in shown or "http-equiv" in shown  # as text
    elements = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name))"
    )
    assert not [one for one in elements if one.startswith("on")]
    if name == "evaluate-compare":  # the plots are images, which the policy lets through
        assert page.evaluate("[...document.images].map(one => one.naturalWidth > 100)") == [True, True]
    context.close()
    if not name.endswith(".svg"):
        parsed = Elements()
        parsed.feed(path.read_text(encoding="utf-8").partition('<script type="application/json"')[0])
        assert parsed.tags <= ALLOWED
        assert not [one for one in parsed.attributes if one.startswith("on")]
        assert (parsed.refreshes, parsed.away) == (0, 0)
