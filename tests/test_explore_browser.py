"""The page of `explore` in a real browser: for any setting it chooses what `select` chooses with the command that it shows."""

import json
import os
import random
import shlex
import shutil
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.errors import CrowdselectError

pytestmark = pytest.mark.extra

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
SETTINGS = 50 if os.environ.get("CROWDSELECT_BROWSER") == "all" else 5  # per pool; `make browser` tries all
FAMILIES = {"oak-1b": 1, "oak-7b": 7, "elm-3b": 3, "elm-14b": 14, "ash-70b": 70}
WEIGHTS = [-2, -1, -0.5, 0, 0, 0.1, 0.3, 1, 1, 2, 0.123456, 7]
CAPTURE = """
const Usual = Worker;
window.Worker = class extends Usual {
  constructor(...given) { super(...given); window.theEngine = this; }
};
window.chosen = (setting) => new Promise((done) => {
  const token = -1 - Math.floor(Math.random() * 1e9);
  window.theEngine.addEventListener("message", function listen({ data }) {
    if (data.token !== token) return;
    window.theEngine.removeEventListener("message", listen);
    const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value, (each) => Number.isNaN(each) ? null : each) : value;
    done(Object.fromEntries(Object.entries(data).map(([name, value]) => [name, plain(value)])));
  });
  window.theEngine.postMessage({ kind: setting === null ? "labels" : "choose", setting, token });
});
"""


def rows_of(kind: str, rng: np.random.Generator) -> list[dict]:
    """A pool of 240 instructions, odd in one way."""
    found = []
    for i in range(240):
        text = f"{rng.choice(['sort', 'count', 'name', 'sum'])} the {rng.choice(['red', 'blue', 'old', 'new'])} things of part {i}"
        if kind == "ties" and i % 5 == 0:
            text = f"the same text {i % 4}"
        for model in FAMILIES:
            if kind == "gaps" and rng.random() < (0.9 if i % 9 == 0 else 0.25):
                continue
            reward = (
                float(rng.integers(0, 3)) / 2
                if kind in {"ties", "student"}
                else round(float(rng.normal()), 3)
            )
            row = {
                "id": f"{i:03d}",
                "instruction": text,
                "model": model,
                "response": f"{model} says {'x' * int(rng.integers(1, 40))}",
            }
            row |= {
                "reward": reward,
                "finish_reason": "stop",
                "topic": None if i % 11 == 0 else f"topic {i if i % 3 else 0}",
            }
            if kind == "gaps":
                row["finish_reason"] = "length" if rng.random() < 0.3 else "stop"
                row["response"] = None if rng.random() < 0.2 else row["response"]
                row["reward"] = None if rng.random() < 0.1 else reward
            found.append(row)
    return found


POOLS = {
    "ties": {"clusters": 6},
    "gaps": {"clusters": 4, "keep": ("best_reward=5%..",)},
    "alone": {"cluster_by": "topic"},
    "student": {"cluster_by": "difficulty:4", "student": "oak-1b"},
}


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="playwright is not installed", exc_type=ImportError)
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module", params=POOLS)
def made(request, tmp_path_factory):
    """A pool and its page."""
    from crowdselect import Options, open_pool
    from crowdselect.explorer.page import make_page
    from crowdselect.explorer.payload import payload_of

    place = tmp_path_factory.mktemp(request.param)
    rows = rows_of(request.param, np.random.default_rng(3))
    pq.write_table(pa.Table.from_pylist(rows), place / "pool.parquet")
    with open_pool(place / "pool.parquet") as pool:
        payload = payload_of(pool, Options(budget=20, cache=False, **POOLS[request.param]))
    (place / "page.html").write_text(make_page(payload.head, payload.packed), encoding="utf-8")
    return place, payload.head


@pytest.fixture
def page(browser, made):
    context = browser.new_context()
    shown = context.new_page()
    shown.set_default_timeout(30_000)
    shown.add_init_script(CAPTURE)
    shown.goto((made[0] / "page.html").as_uri())
    shown.wait_for_selector("html[data-ready=yes]")
    yield shown
    context.close()


def any_setting(rng: random.Random, head: dict) -> dict:
    names = [each["name"] for each in head["numbers"]]
    keep = []
    for name in rng.sample(names, rng.choice([0, 0, 1, 1, 2])):
        low, high = rng.choice(
            [
                (None, "60%"),
                ("20%", None),
                ("12.5%", "95%"),
                (-0.5, None),
                (None, 1),
                (0.5, 20),
                ("0%", "100%"),
            ]
        )
        keep.append({"name": name, "low": low, "high": high})
    used = rng.sample(names, rng.randint(1, len(names)))
    return {
        "method": rng.choice(["crowd", "crowd", *(each["name"] for each in head["methods"])]),
        "weights": {name: rng.choice(WEIGHTS) for name in used},
        "budget": rng.choice([1, 2, 7, 20, 33, 60, 90, head["budgetMost"]]),
        "clusters": rng.random() < 0.6,
        "keep": keep,
        "answer": rng.choice(["best", *head["answers"]]),
    }


def selected(command: str, place):
    """What `select` chooses with a command, which names its files beside the page."""
    from crowdselect.cli.choosing import Selecting, counted, with_method
    from crowdselect.cli.main import cli
    from crowdselect.cli.options import made as made_of
    from crowdselect.methods import METHODS, method_named
    from crowdselect.selection.run import select

    words = shlex.split(command)
    assert words[:2] == ["crowdselect", "select"]
    command_of = cli.get_command(None, "select")
    with command_of.make_context("select", words[2:]) as context:
        given = counted(with_method(dict(context.params)))
        known = {setting.name for entry in METHODS.values() for setting in entry.settings} & given.keys()
        settings = {name: given.pop(name) for name in sorted(known)}
        asked = made_of(Selecting, given, settings={k: v for k, v in settings.items() if v is not None})
    with asked.source.opened(seed=asked.options.seed) as pool:
        return asked, select(pool, asked.options, method=method_named(asked.method))


def test_it_chooses_what_the_command_chooses(made, page, monkeypatch):
    place, head = made
    monkeypatch.chdir(place)
    labels = page.evaluate("chosen(null)") if head["spread"]["fitted"] else None
    if labels is not None:
        (place / labels["name"]).write_text(labels["text"], encoding="utf-8")
    rng, filled = random.Random(17), 0
    while filled < SETTINGS:
        setting = any_setting(rng, head)
        found = page.evaluate(f"chosen({json.dumps(setting)})")
        if "error" in found:
            assert not_possible(setting, head, place), (setting, found["error"])
            continue
        filled += 1
        asked, selection = selected(found["command"], place)
        table, told = selection.table, json.dumps(setting)
        assert asked.options.budget == setting["budget"], told
        (recipe,) = tomllib.loads(found["recipe"])["select"]
        assert recipe.pop("method") == asked.method, told
        for name, value in recipe.items():
            typed = getattr(asked.options, name.replace("-", "_"))
            assert (typed if name != "weights" else {n: w for n, w in typed.items() if w}) == (
                tuple(value) if isinstance(value, list) else value
            ), told
        assert [rank or 0 for rank in table["rank"].to_pylist()] == found["rank"], told
        assert [reasons_of(reason, head) for reason in table["reason"].to_pylist()] == [
            (head["codes"][code], None if other < 0 else table["id"][other].as_py())
            for code, other in zip(found["reason"], found["refers"], strict=True)
        ], told
        if setting["method"] == "crowd":
            assert table["score"].to_pylist() == found["score"], told
        quotas = sorted(each["chosen"] for each in found["quotas"])
        assert quotas == sorted(selection.facts["quotas"].values()), told


def reasons_of(reason: str, head: dict) -> tuple[str, str | None]:
    code, _, other = reason.partition(":")
    return (reason, None) if reason in head["codes"] else (code, other)


def not_possible(setting: dict, head: dict, place) -> bool:
    """Whether the library refuses the setting too."""
    from crowdselect import Options, open_pool, select
    from crowdselect.methods import method_named

    weights = {name: weight for name, weight in setting["weights"].items() if weight}
    if setting["method"] == "crowd" and not weights:
        return True  # `Options` refuses them; here nothing would be given
    ends = [(each["name"], each["low"], each["high"]) for each in setting["keep"]]
    shown = ["" if end is None else str(end) for name, low, high in ends for end in (low, high)]
    keep = tuple(
        f"{name}={low}..{high}" for (name, *_), low, high in zip(ends, shown[::2], shown[1::2], strict=True)
    )
    more = {"student": "oak-1b"} if head["student"] else {}
    more |= {"weights": weights} if setting["method"] == "crowd" else {}
    with open_pool(place / "pool.parquet") as pool:
        options = Options(
            budget=setting["budget"], clusters=0, answer=setting["answer"], keep=keep, cache=False, **more
        )
        try:
            select(pool, options, method=method_named(setting["method"]))
        except CrowdselectError:
            return True
    return False
