"""Selections in a notebook: what they show, what they become, and the line that shows how far a function is."""

import ast
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from crowdselect import Options, Selection, open_pool, select
from crowdselect.progress import Stages

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
HOSTILE = "<script>alert(1)</script>\u202e&"


def rows(models=("Qwen2.5-3B", "Qwen2.5-7B", f"m{HOSTILE}")):
    return [
        {
            "id": f"{HOSTILE}{number}",
            "instruction": f"What is {number} times {number}?",
            "model": model,
            "response": f"{number}, says number {place}",
            "score": (number * 7 + place * number) % 11,
        }
        for number in range(12)
        for place, model in enumerate(models)
    ]


@pytest.fixture(scope="module")
def selection():
    with open_pool(rows()) as pool:
        return select(pool, Options(budget=7, clusters=2))


def test_a_selection_is_one_line(selection):
    words = "7 of 12 instructions chosen by 1 x difficulty + 1 x separability + 2 x stability"
    assert repr(selection) == f"Selection({words}, {len(selection.warnings)} warnings)"


class Shown(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        assert not attributes
        self.tags.append(tag)

    def handle_data(self, text):
        self.text.append(text)


def test_a_pool_is_one_line_that_reads_no_rows(tmp_path):
    place = tmp_path / "pool.jsonl"
    place.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    with open_pool(place) as pool:
        assert repr(pool) == "Pool(pool.jsonl, long layout, rewards: score)"
        assert "_index" not in vars(pool)
    place.write_text('{"id": "1", "instruction": "Hi", "model": "a", "response": "Ho"}\n', encoding="utf-8")
    with open_pool(place) as pool:
        assert repr(pool) == "Pool(pool.jsonl, long layout, rewards: none)"


def test_a_notebook_shows_summary_first_rows_and_the_comparison(selection):
    page = selection._repr_html_()
    shown = Shown(page)
    assert set(shown.tags) == {"p", "b", "table", "caption", "tr", "th", "td"}
    assert shown.text[0].startswith("7 of 12 instructions chosen by")
    assert shown.tags.count("tr") == 1 + 5 + 1 + 4  # five rows; reward and three metrics
    assert {"First 5", "reward", "difficulty"} <= set(shown.text)
    first = selection.chosen[0].replace("\u202e", "\\u202e")
    assert first in shown.text
    assert "\u202e" not in page
    assert set(selection.warnings) <= {text.removeprefix("warning: ") for text in shown.text}


def test_the_chosen_rows_as_tables(selection):
    table = selection.to_arrow()
    assert table.column("id").to_pylist() == selection.chosen
    assert table.column("rank").to_pylist() == [*range(1, 8)]
    assert table.schema == selection.table.schema


@pytest.mark.extra
def test_the_chosen_rows_for_other_libraries(selection):
    pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    assert selection.to_pandas()["id"].tolist() == selection.chosen
    assert selection.to_dataset()["id"][:] == selection.chosen
    assert selection.to_dataset()["score"][:] == selection.to_arrow()["score"].to_pylist()


def test_the_comparison_shows_no_more_than_there_is(selection):
    """A selection read from a folder without numbers to compare still shows."""
    bare = Selection(table=selection.table.drop_columns(["difficulty"]), options=selection.options)
    assert "difficulty</td>" not in bare._repr_html_()
    assert "warning" not in repr(bare)


class Handle:
    def __init__(self, first):
        self.seen = [first]

    def update(self, shown):
        self.seen.append(shown)


@pytest.fixture
def notebook(monkeypatch):
    """IPython as a notebook has it; gives the lines that were shown."""
    handles = []

    def display(shown, *, display_id):
        assert display_id is True
        handles.append(Handle(shown))
        return handles[-1]

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.display, module.HTML = display, lambda text: text
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return handles


def test_one_line_shows_all_stages(notebook):
    stages = Stages()
    with stages("<rows>") as report:
        report(10, 10)
    with stages("clusters"):
        pass
    [line] = notebook
    assert line.seen[:2] == [
        "&lt;rows&gt; …",
        '<progress value="10" max="10"></progress> &lt;rows&gt;: 10 of 10',
    ]
    assert line.seen[-2] == "clusters …"
    assert line.seen[-1].startswith("clusters: done, ")


def test_a_bar_moves_five_times_a_second_at_most(notebook):
    with Stages()("rows") as report:
        for done in range(1000):
            report(done, 10_000)
    assert len(notebook[0].seen) < 100


def test_a_failed_stage_stays_visible(notebook):
    def broken():
        with Stages()("rows") as report:
            report(5, 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert notebook[0].seen[-1].endswith("rows: 5 of 5")


def test_ipython_in_a_terminal_shows_no_line(notebook):
    sys.modules["IPython"].get_ipython = SimpleNamespace  # a shell without a kernel
    with Stages()("rows"):
        pass
    assert notebook == []


def test_asking_and_scoring_show_a_bar_too(notebook):
    from crowdselect.ask.display import watch
    from crowdselect.reward.job import Meter

    counts = SimpleNamespace(done=3, cost=0.0, failed=0, in_flight=0)
    lane = SimpleNamespace(counts=counts, stopped=None, waits=False, endpoint=SimpleNamespace(name="m"))
    with watch([lane], 3) as update:
        update()
    assert '<progress value="3" max="3"></progress> asking models: 3 of 3' in notebook[0].seen
    with Stages()("scoring") as report:
        Meter(5, report=report).add(5)
    assert '<progress value="5" max="5"></progress> scoring: 5 of 5' in notebook[1].seen


@pytest.mark.extra
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells in order, the last expression of each shown as a notebook shows it."""
    pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in codes)
    names, shown = {}, []
    for cell in codes:
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
            shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    names["pool"].close()
    assert "30 of 300 instructions chosen by" in "".join(shown)
    assert "'messages'" in shown[-1]
    assert len((tmp_path / "chosen" / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 30


def test_a_pool_opens_in_a_notebook_without_widgets(tmp_path):
    """DuckDB knows a notebook by IPython's configuration, and there refuses settings of its bar without ipywidgets."""
    package = tmp_path / "IPython"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class Shell:\n    config = {'IPKernelApp': {}}\n    kernel = object()\n\n"
        "def get_ipython():\n    return Shell()\n",
        encoding="utf-8",
    )
    (package / "display.py").write_text(
        "class Handle:\n    update = print\n\nHTML = str\n\n"
        "def display(shown, display_id):\n    print(shown)\n    return Handle()\n",
        encoding="utf-8",
    )
    (tmp_path / "ipywidgets.py").write_text("raise ModuleNotFoundError('ipywidgets')\n", encoding="utf-8")
    code = (
        "import IPython, json, sys\nfrom crowdselect import Options, open_pool, select\n"
        "selection = select(open_pool(json.load(sys.stdin)), Options(budget=3, clusters=0))\nprint(selection)"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(rows()),
        env={**os.environ, "PYTHONPATH": path, "CROWDSELECT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "choice: done, " in ran.stdout
    assert "Selection(3 of 12 instructions chosen by" in ran.stdout
