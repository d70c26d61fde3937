"""`crowdselect run`: reading recipes, sweeps, what is reused, what happens at a failure or a kill, the page."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collecting import wait_for
from crowdselect.recipe.graph import build
from crowdselect.recipe.reading import read_recipe
from crowdselect.recipe.running import make_plan
from crowdselect.recipe.store import Digests, Store, key_of

CROWD = """
[defaults]
base_url = "http://127.0.0.1:9/v1"
max_tokens = 8
price_in = 1.0
price_out = 1.0
[[model]]
name = "m-7b"
[[model]]
name = "m-70b"
[[model]]
name = "anchor"
[[judge]]
name = "judge"
"""
SIMPLE = """
[pool]
path = "pool.parquet"
[[select]]
budget = 10
clusters = 0
[[select]]
method = "random"
budget = 10
"""


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a pool of 30 instructions, answered by two models."""
    draw = random.Random(0)
    rows = [
        {
            "id": f"i{n:02d}",
            "instruction": f"Say {n}.",
            "model": m,
            "response": "x" * draw.randint(1, 60),
            "score": draw.random(),
        }
        for n in range(30)
        for m in ("m-7b", "m-70b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    return tmp_path


def write(place: Path, text: str, name: str = "recipe.toml") -> Path:
    (place / name).write_text(text)
    return place / name


def graph_of(place: Path, text: str):
    return build(read_recipe(write(place, text)))


def titles(place: Path, text: str) -> list[str]:
    return [step.title for step in graph_of(place, text).steps]


def keys(place: Path, text: str) -> dict[str, str]:
    """Title → key, of steps that need no other."""
    graph = graph_of(place, text)
    digests = Digests(place)
    return {step.title: key_of(step, [], digests) for step in graph.steps if not step.needs}


def stamps(out: Path) -> dict[str, int]:
    """When each step was done."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("steps/*/step.json")}


def table(out: Path) -> dict:
    return json.loads((out / "table.json").read_text())


# Reading


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[selct]\nbudget = 1", ["[selct]", "[select]"]),
        ("[select]\nbudget = 1\nmethod = 'rndom'", ["[select]", "rndom", "did you mean 'random'?"]),
        ("[baseline.random]\nbudget = 1", ["[baseline.random] is now", '[[select]] with method = "random"']),
        ("[[baseline.deita]]\nquality = 'q'\ncomplexity = 'c'", ['with method = "deita:c,q"']),
        ("[baseline]\nbudget = 1", ["[baseline] is now", "[[select]] with method"]),
        ("[select]\nbudgt = 1", ["[select]", "'budgt'", "'budget'"]),
        ("[select]\nbudget = 1\n_budget = 2", ["unknown key", "'_budget'"]),
        ("[select]\nnear-duplicates = 0.9\nnear_duplicates = 0.8\nbudget = 1", ["given twice"]),
        ("[select]\noutput = 'x'\nbudget = 1", ["'output'", "set by the recipe"]),
        ("[select]\nbudget = 1\nseeds = 3", ["seed = [0, 1, 2]"]),
        ("[select]\nbudget = 'many'", ["[select]", "--budget", "'many'"]),
        ("[select]\nbudget = true", ["budget", "True"]),
        ("[select]\nbudget = []", ["budget", "[]"]),
        ("[select]\nbudget = [5, 5]", ["budget", "twice"]),
        ("[select]\nreport = 'yes'\nbudget = 1", ["report", "true or false"]),
        ("[select]\nclusters = 3", ["--budget"]),
        ("[select]\nbudget = [1,2]\nseed = [" + ",".join(map(str, range(9999))) + "]", ["19,998 steps"]),
        (
            "[select]\nbudget = 1\ncrowd = ['a.toml', 'b.toml']\n[compare]",
            ["[compare]", "different crowds (a.toml, b.toml)", 'crowd = "crowd.toml"'],
        ),
        ("[[compare]]\n[[compare]]\n[select]\nbudget = 1", ["[[compare]]", "once"]),
        ("[[select]]\nbudget = 1\n[[select]]\nbudget = 1", ["appears twice"]),
        ("[train]\nlora = true", ["[train]", "nothing to train on"]),
        ("[train]\ndata = 'x.jsonl'", ["--base"]),
        ("[evaluate.mt-bench]\nquestions = 'q'\njudge = 'c#j'", ["no model to measure"]),
        ("[evaluate.mt-bench]\nquestions = 'q'\nmodel = 'm'", ["judge must be given"]),
        ("[evaluate.harness]\nmodel = 'm'", ["[evaluate.harness]", "tasks must be given"]),
        ("[evaluate.harness]\ntasks = 'arc_easy'", ["no model to measure"]),
        ("[evaluate.loss]\nmodel = 'm'\nname = 'n'", ["'name' is set by the recipe"]),
        ("[evaluate.loss]\nmodel = 'm'\non = 'pool.parquet'\nsample = 3", ["`sample` is of a pool"]),
        (
            "[train]\nbase = 'b'\ndata = 'pool.parquet'\n[evaluate.loss]",
            [
                "[evaluate.loss]",
                "a student trained on the file pool.parquet may know rows of the pool: say what to measure on: on, or pool",
            ],
        ),
        (
            "[reward]\nwith = [['python:a:b'], ['python:c:d']]\n[evaluate.prefers]\nmodel = 'm'",
            ["[evaluate.prefers]", "there are several pools"],
        ),
        ("[collect]\ncrowd = 'c'", ["both", "keep one"]),
        ("budget = 3", ["[budget]"]),
        ("[select", ["not a TOML file"]),
    ],
)
def test_what_is_wrong_is_named(place, run, text, words):
    pool = "" if text == "[select" else "\n[pool]\npath = 'pool.parquet'\n"
    recipe = write(place, text + ("" if text.startswith("budget") else pool))
    if words[0] == "both":
        words = ["[collect]", "[pool]", "keep one"]
    run("run", recipe, "--dry-run").refuses("recipe.toml", *words)
    assert not (place / "recipe").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SIMPLE.replace("pool.parquet", "none.parquet"), ["none.parquet"]),
        (SIMPLE + "exclude = 'gone.txt'", ["[[select]] number 2", "exclude", "gone.txt"]),
        (
            SIMPLE
            + "[train]\nbase='b'\n[evaluate.mt-bench]\nquestions='pool.parquet'\njudge='crowd.toml#jugde'",
            ["judge", "'jugde'", "judge"],
        ),
        (SIMPLE + "[train]\nbase='b'\ndata = 'gone'", ["[train]", "data", "gone"]),
        (SIMPLE + "[evaluate.loss]\nmodel='b'\non = 'gone.jsonl'", ["[evaluate.loss]: on:", "gone.jsonl"]),
        (
            SIMPLE
            + "[train]\nbase='b'\n[evaluate.mt-bench]\nquestions='pool.parquet'\njudge='free.toml#j'\nmax-cost=5",
            ["[evaluate.mt-bench]", "price_in and price_out of 'j' are unknown"],
        ),
    ],
)
def test_what_is_not_there_is_said_before_anything_runs(place, run, text, words):
    write(place, CROWD, "crowd.toml")
    write(place, "[[judge]]\nname = 'j'", "free.toml")
    run("run", write(place, text)).refuses(*words)
    assert not list(place.glob("recipe/steps/*"))


def test_no_recipe_and_other_peoples_folders(place, run):
    run("run").refuses("--example")
    run("run", place / "none.toml").refuses("none.toml", "--example")
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work")
    recipe = write(place, SIMPLE)
    run("run", recipe, "-o", place / "mine").refuses("mine", "other things")
    run("run", recipe, "-o", place / "no" / "where").refuses("no folder")
    assert [path.name for path in (place / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.extra
def test_the_example_is_a_recipe_that_can_be_planned(tmp_path, run):
    printed = run("run", "--example")
    assert printed.code == 0
    write(tmp_path, printed.out)
    write(tmp_path, CROWD, "crowd.toml")
    for name in ("mt_bench_question", "mt_bench_reference_gpt-4", "arena_hard_question", "instructions"):
        write(tmp_path, '{"id": "a", "instruction": "Hello"}\n', f"{name}.jsonl")
    many = [json.dumps({"id": f"i{n}", "instruction": f"Say {n}."}) + "\n" for n in range(1000)]
    write(tmp_path, "".join(many), "instructions.jsonl")
    ran = run("run", tmp_path / "recipe.toml", "--dry-run", "--json")
    assert ran.code == 0, ran
    steps = json.loads(ran.out)["steps"]
    counts = {
        section: sum(one["section"] == section for one in steps) for section in {s["section"] for s in steps}
    }
    assert counts == {
        "collect": 1,
        "reward": 1,
        "select": 10,
        "compare": 1,
        "train": 20,
        "evaluate.mt-bench": 20,
        "evaluate.arena-hard": 20,
        "evaluate.loss": 20,
        "evaluate.compare": 6,  # two sizes, three benchmarks
    }
    assert [one["state"] for one in steps] == ["to do"] + ["waiting"] * 98
    assert steps[0]["plan"], steps[0]
    assert steps[0]["plan"]["models"]["m-7b"]["calls"] == 1000
    assert not (tmp_path / "recipe").exists()  # a plan writes nothing


DOCS = Path(__file__).parent.parent / "docs"
PLANNED = {
    name: (int(trained), int(measured))
    for name, trained, measured in re.findall(
        r"^\| \[`(\w+\.toml)`\].*\| (\d+) \| (\d+) \|$",
        (DOCS / "reproduce-the-paper.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}


@pytest.mark.extra
@pytest.mark.parametrize(("prices", "max_cost"), [(True, 0.00001), (True, 5), (False, None)])
def test_the_plan_says_where_a_cap_stops_and_which_prices_are_missing(place, run, prices, max_cost):
    pytest.importorskip("openai")
    crowd = CROWD if prices else CROWD.replace("price_in = 1.0\nprice_out = 1.0\n", "")
    write(place, crowd, "crowd.toml")
    (place / "in.jsonl").write_text('{"id": "a", "instruction": "Say a."}\n')
    cap = "" if max_cost is None else f"max-cost = {max_cost}\n"
    head = f"[collect]\ninstructions = 'in.jsonl'\ncrowd = 'crowd.toml'\n{cap}"
    write(place, head + "[reward]\nwith = ['judge:crowd.toml#judge', 'http://127.0.0.1:9']\n")
    ran = run("run", place / "recipe.toml", "--dry-run")
    assert ran.code == 0, ran
    said = " ".join(ran.out.split())
    assert ("lacks price_in or price_out (money per million tokens)" in said) != prices
    found = json.loads(run("run", place / "recipe.toml", "--dry-run", "--json").out)["steps"]
    assert found[0]["cost"].endswith("; stops at 1e-05") == (max_cost == 0.00001), found[0]
    assert ("stops at" in found[0]["cost"]) == (max_cost == 0.00001)
    assert found[1]["amount"] == "at most 3 answers to score by each of 2"
    assert "not counted: reward (known after collect)" in said


def test_every_recipe_of_the_paper_is_in_its_page():
    assert set(PLANNED) == {path.name for path in (DOCS / "recipes").glob("*.toml")} - {"crowd.toml"}


@pytest.mark.parametrize("name", PLANNED)
def test_the_recipes_of_the_paper_can_be_planned(tmp_path, name):
    for file in (DOCS / "recipes").glob("*.toml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write(tmp_path, "{{ messages }}", "llama-3.2.jinja")
    for file in ("mt_bench_question", "mt_bench_reference_gpt-4", "arena_hard_question"):
        write(
            tmp_path,
            json.dumps({"question_id": 1, "category": "math", "turns": ["1 + 1?", "+ 1?"]}),
            f"{file}.jsonl",
        )
    graph = build(read_recipe(tmp_path / name))
    store = Store(tmp_path / "paper", Digests(tmp_path))
    lines = make_plan(graph, store, all_priced=False, progress=lambda *_: None)
    for section, number in zip(("train", "evaluate.mt-bench"), PLANNED[name], strict=True):
        assert len([one for one in lines if one.step.section == section]) == number
    assert {line.state for line in lines if line.step.section == "train"} == {"waiting"}
    for step in graph.steps:
        if step.section == "evaluate.compare":
            assert step.against.startswith("random")


def test_the_baselines_in_the_papers_page_are_as_the_commands_want_them(place):
    page = (DOCS / "reproduce-the-paper.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    write(place, (DOCS / "recipes" / "crowd.toml").read_text(encoding="utf-8"), "crowd.toml")
    assert set(keys(place, "[pool]\npath = 'pool.parquet'\n" + snippet)) == {
        "tags:tags",
        "column:marks",
        "ifd:Qwen/Qwen2.5-3B",
    }


@pytest.mark.extra
@pytest.mark.real
def test_the_judges_tokens_in_the_papers_page_are_those_of_the_plan(tmp_path, run, data, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_API_KEY", "none")
    own = (
        "--judge",
        f"{DOCS / 'recipes' / 'crowd.toml'}#judge",
        "--dry-run",
        "--json",
        "-o",
        tmp_path / "out",
    )
    mt = (
        "--questions",
        data / "eval/mt_bench_question.jsonl",
        "--references",
        data / "eval/mt_bench_reference_gpt-4.jsonl",
    )
    model = ("--model", f"{DOCS / 'recipes' / 'crowd.toml'}#Qwen2.5-3B")
    plan = json.loads(run("evaluate", "mt-bench", *mt, *model, *own).out)["plan"]["judge judge"]
    assert (plan["calls"], round(plan["prompt_tokens"] / 1e6, 2), round(plan["answer_tokens"] / 1e6, 2)) == (
        160,
        0.33,
        0.16,
    )
    answers = [
        data / f"eval/arena_hard_v0.1_answer_{name}.jsonl" for name in ("gpt-3.5-turbo-0125", "gpt-4-0613")
    ]
    arena = ("--questions", data / "eval/arena_hard_v0.1_question.jsonl")
    given = ("--answers", answers[0], "--baseline", answers[1])
    plan = json.loads(run("evaluate", "arena-hard", *arena, *given, *own).out)["plan"]["judge judge"]
    assert (plan["calls"], round(plan["prompt_tokens"] / 1e6, 1), round(plan["answer_tokens"] / 1e6, 1)) == (
        1000,
        1.1,
        1.0,
    )


# Sweeps


def test_lists_are_unfolded_and_steps_named_by_what_differs(place):
    text = """
[pool]
path = "pool.parquet"
[[select]]
label = "metric"
budget = [5, 10]
weights = [{difficulty = 1}, {difficulty = -1}]
clusters = 0
[[select]]
label = "all"
budget = 10
clusters = [10, 20]
reward = [["a"], ["a", "b"]]
[[select]]
method = ["reward:up", "reward:down"]
budget = 5
"""
    assert titles(place, text) == [
        "metric budget 5 weights difficulty 1",
        "metric budget 5 weights difficulty -1",
        "metric budget 10 weights difficulty 1",
        "metric budget 10 weights difficulty -1",
        "all clusters 10 reward a",
        "all clusters 10 reward a+b",
        "all clusters 20 reward a",
        "all clusters 20 reward a+b",
        "reward:up",
        "reward:down",
    ]


def test_what_has_the_same_name_elsewhere_is_not_one_method(place):
    write(place, CROWD, "crowd.toml")
    for name in ("a", "b"):
        (place / name / "chosen").mkdir(parents=True)
        write(place / name / "chosen", "{}", "train.jsonl")
    text = """
[train]
base = ["x/model", "y/model"]
data = ["a/chosen", "b/chosen"]
"""
    assert [run.group for run in graph_of(place, text).runs] == [
        f"{data}/chosen train base {base}/model" for base in "xy" for data in "ab"
    ]


def test_a_list_that_the_option_itself_takes_is_no_sweep(place):
    text = SIMPLE.replace("clusters = 0", 'clusters = 0\nreward = ["a", "b"]\nensemble = "mean-rank"')
    (chosen, _) = graph_of(place, text).steps
    line = chosen.line(["POOL"], "OUT")
    assert line == [
        "select",
        "--budget=10",
        "--clusters=0",
        "--reward=a",
        "--reward=b",
        "--ensemble=mean-rank",
        "--output=OUT",
        "--",
        "POOL",
    ]


def test_every_result_is_held_against_random_rows_of_as_many_trained_alike(place):
    write(place, CROWD, "crowd.toml")
    text = """
[pool]
path = "pool.parquet"
[[select]]
budget = [5, 10]
[[select]]
method = "random"
budget = [5, 10]
seed = [0, 1]
[train]
base = ["students/a", "students/b"]
seed = [0, 1]
[evaluate.mt-bench]
questions = "pool.parquet"
judge = "crowd.toml#judge"
model = ["students/a", "other"]
"""
    graph = graph_of(place, text)
    compared = {}
    for step in graph.steps:
        if step.section == "evaluate.compare":
            groups: dict[str, int] = {}
            for one in step.inputs:
                groups[one.label] = groups.get(one.label, 0) + 1
            compared[step.against] = groups
    base = {"a": {"a": 1, "other": 1}, "b": {"other": 1}}
    assert compared == {
        f"random budget {n} train base {b}": {
            f"select budget {n} train base {b}": 2,
            f"random budget {n} train base {b}": 4,
            **base[b],
        }
        for n in (5, 10)
        for b in ("a", "b")
    }
    assert len([step for step in graph.steps if step.section == "train"]) == 6 * 4
    assert len(graph.results["mt-bench"]) == 26


MEASURED = """
[train]
base = "org/base"
seed = [0, 1]
[evaluate.harness]
tasks = ["arc_easy", "hellaswag"]
model = ["org/base"]
[evaluate.loss]
model = "org/base"
[evaluate.prefers]
sample = 5
min-margin = [0.0, 0.1]
"""


def test_every_student_is_measured_without_a_judge_on_what_no_student_was_trained_on(place):
    text = SIMPLE.replace('path = "pool.parquet"', 'path = "pool.parquet"\nmodel = "by"') + MEASURED
    graph = graph_of(place, text)
    assert set(graph.results) == {"harness", "loss", "prefers min-margin 0.0", "prefers min-margin 0.1"}
    students = (
        "select, train seed 0",
        "random, train seed 0",
        "select, train seed 1",
        "random, train seed 1",
    )
    for name, results in graph.results.items():
        runs = [run.title for run, _ in results]
        assert sorted(runs) == sorted([*students, *(["base"] if "prefers" not in name else [])])
        (comparison,) = graph.comparisons[name]
        assert comparison.against == "random"
        assert {one.label for one in comparison.inputs} >= {"select", "random"}
    _, step = graph.results["loss"][0]
    assert step.needs[1:] == graph.selections
    assert step.line(["MODEL", "pool.parquet", "a", "b"], "out") == [
        "evaluate", "loss", "--model=by", "--name=select, train seed 0", "--pool=pool.parquet", "--not=a", "--not=b",
        "--output=out", "--", "MODEL",
    ]  # fmt: skip
    _, step = graph.results["harness"][-1]
    assert step.line(["org/base"], "out") == [
        "evaluate", "harness", "--tasks=arc_easy", "--tasks=hellaswag", "--name=base", "--output=out", "--", "org/base",
    ]  # fmt: skip


def test_students_of_one_choice_stand_together_in_a_comparison(place):
    text = SIMPLE.replace('method = "random"', 'method = "random"\nseed = [0, 1]') + MEASURED
    (comparison,) = graph_of(place, text).comparisons["loss"]
    places = ["model" if one.label == "base" else one.source.title for one in comparison.inputs]
    line = comparison.line([place.replace(", ", " of ") for place in places], "out")
    of = "random=loss of random seed {0} of train seed 0,loss of random seed {0} of train seed 1"
    assert [arg for arg in line if arg.startswith("random=")] == [of.format(0), of.format(1)]


def test_rows_that_a_table_names_are_those_that_count(place):
    (place / "rows.jsonl").write_text("")
    for own, names in (
        ('on = "rows.jsonl"', "--on=rows.jsonl"),
        ('pool = "other.parquet"', "--pool=other.parquet"),
    ):
        graph = graph_of(place, f'{SIMPLE}\n[train]\nbase = "org/base"\n[evaluate.loss]\n{own}')
        _, step = graph.results["loss"][0]
        assert [one.role for one in step.inputs] == ["student"]
        assert names in step.line(["MODEL"], "out")


def test_any_part_may_be_left_out(place):
    write(place, CROWD, "crowd.toml")
    for name in ("ours", "theirs"):
        (place / name).mkdir()
        write(place / name, "{}", "train.jsonl")
    trained = "[train]\nbase = 'b'\ndata = ['ours', 'theirs']\nseed = [0, 1]\n"
    measured = "[evaluate.mt-bench]\nquestions = 'q'\njudge = 'crowd.toml#judge'\n"
    graph = graph_of(place, trained + measured)
    assert [run.title for run in graph.runs] == [
        f"{data}, train seed {seed}" for data in ("ours", "theirs") for seed in (0, 1)
    ]
    last = graph.steps[-1]
    assert (last.against, [one.label for one in last.inputs]) == (None, ["ours"] * 2 + ["theirs"] * 2)
    assert titles(place, measured + "model = ['crowd.toml#m-7b', 'ours']") == [
        "mt-bench of m-7b",
        "mt-bench of ours",
        "compare mt-bench",
    ]
    assert titles(place, measured + "model = 'ours'") == ["mt-bench of ours"]


# Keys


def test_a_key_is_of_the_content_and_not_of_names_places_or_hows(place):
    write(place, "i01\n", "ids.txt")
    before = keys(place, SIMPLE + 'include = "ids.txt"')
    (place / "ids.txt").rename(place / "few.txt")
    same = keys(place, SIMPLE + 'include = "few.txt"\nno-cache = true')
    assert same == before
    write(place, "i02\n", "few.txt")
    other = keys(place, SIMPLE + 'include = "few.txt"')
    assert other["select"] == before["select"]
    assert other["random"] != before["random"]
    named = keys(place, SIMPLE.replace("clusters = 0", "clusters = 0\nties = 'paper'"))
    assert named["select"] != before["select"]
    spelt = keys(place, SIMPLE.replace("clusters = 0", "clusters = 0\nties = 'average'"))  # the default
    assert spelt["select"] == before["select"]


def test_an_option_that_is_not_in_use_is_in_no_key_but_0_is_a_value(place):
    plain = keys(place, SIMPLE)["random"]
    assert keys(place, SIMPLE + "report = false")["random"] == plain
    assert keys(place, SIMPLE + "report = true")["random"] != plain
    zero = keys(place, SIMPLE + "keep = ['best_reward=0%..']")["random"]
    assert zero not in {plain, keys(place, SIMPLE + "keep = ['best_reward=100%..']")["random"]}


def test_prices_and_hosts_of_a_crowd_change_no_answers(place):
    text = "[collect]\ninstructions = 'asked.jsonl'\ncrowd = 'crowd.toml'\nmax-cost = 3"
    write(place, '{"id": "a", "instruction": "Hello"}\n', "asked.jsonl")
    write(place, CROWD, "crowd.toml")
    before = keys(place, text)
    write(place, CROWD.replace(":9/", ":10/").replace("price_in = 1.0", "price_in = 2.0"), "crowd.toml")
    assert keys(place, text.replace("3", "5")) == before
    write(place, CROWD.replace("max_tokens = 8", "max_tokens = 9"), "crowd.toml")
    assert keys(place, text) != before


def test_a_functions_file_is_part_of_the_key(place):
    text = "[pool]\npath = 'pool.parquet'\n[reward]\nwith = ['python:rule:f']"
    write(place, "def f(c):\n    return [0.0 for _ in c]\n", "rule.py")
    before = keys(place, text)
    write(place, "def f(c):\n    return [1.0 for _ in c]\n", "rule.py")
    assert keys(place, text) != before


def test_the_model_that_answers_are_to_fit_is_part_of_the_key(place):
    (place / "model").mkdir()
    for answer in ("fits:model", "fits:model,0.5"):
        write(place, "{}", "model/config.json")
        before = keys(place, SIMPLE + f"answer = '{answer}'")["random"]
        write(place, '{"a": 1}', "model/config.json")
        assert keys(place, SIMPLE + f"answer = '{answer}'")["random"] != before


# Running


def test_what_is_done_is_kept_whatever_it_is_called(place, run):
    recipe, out = write(place, SIMPLE + "[compare]\ndraws = 5\n"), place / "recipe"
    first = run("run", recipe)
    assert first.code == 0, first
    assert re.findall(r"(\d/3)  ([\w ]+?)  done in", first.err) == [
        ("1/3", "select"),
        ("2/3", "random"),
        ("3/3", "compare the selections"),
    ]
    (line,) = re.findall(r"look at what was chosen:\n  crowdselect (view .*)\n", first.out)
    assert run(*shlex.split(line)).code == 0
    made = stamps(out)
    assert len(made) == 3
    again = run("run", recipe)
    assert (again.code, again.err) == (0, "")
    assert stamps(out) == made
    # Moved, renamed, in another recipe's words and with a part more: only that is done.
    (place / "data").mkdir()
    (place / "pool.parquet").rename(place / "data" / "answers.parquet")
    more = SIMPLE.replace("pool.parquet", "data/answers.parquet").replace(
        "[[select]]", "[[select]]\nlabel = 'ours'", 1
    )
    write(place, more.replace("budget = 10\n[", "budget = 10\n[") + "seed = [0, 1]\n", "second.toml")
    second = run("run", place / "second.toml", "-o", out)
    assert second.code == 0, second
    assert re.findall(r"step \d/\d  ([\w ]+?)  done in", second.err) == ["random seed 1"]
    assert {name: at for name, at in stamps(out).items() if name in made} == made
    # One option changed: what depends on it is done, nothing else.
    third = run(
        "run",
        write(place, (SIMPLE + "[compare]\ndraws = 6\n").replace("pool.parquet", "data/answers.parquet")),
    )
    assert re.findall(r"\d/\d  ([\w ]+?)  done in", third.err) == ["compare the selections"]


BLOCKING = """
import pathlib, time
def quick(conversations):
    return [float(len(one[-1]["content"])) for one in conversations]
def slow(conversations):
    pathlib.Path("began").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    return quick(conversations)
def some(conversations):
    return [None if len(one[-1]["content"]) % 7 == 0 else 1.0 * len(one[-1]["content"]) for one in conversations]
def broken(conversations):
    raise ValueError("the rule is broken")
"""
SCORED = """
[pool]
path = "pool.parquet"
[reward]
with = [["python:rule:quick"], ["python:rule:slow"]]
no-self-test = true
[select]
budget = 10
clusters = 0
reward = "score"
"""


def start(recipe: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "crowdselect", "run", str(recipe)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )


@pytest.fixture
def blocked(place):
    """A run whose second step is at work and waits for the file `go`; what is left of it is ended."""
    write(place, BLOCKING, "rule.py")
    process = start(write(place, SCORED), place.parent / f"{place.name}.log")
    try:
        wait_for((place / "began").exists, 60)
        yield process
    finally:
        (place / "go").touch()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_kill_in_the_middle_of_a_step_loses_no_other(place, blocked, run):
    os.killpg(blocked.pid, signal.SIGKILL)
    blocked.wait()
    made = stamps(place / "recipe")
    assert len(made) == 1
    (place / "go").touch()
    again = run("run", place / "recipe.toml")
    assert again.code == 0, again
    assert "1/4" not in again.err
    assert {name: at for name, at in stamps(place / "recipe").items() if name in made} == made
    assert len(stamps(place / "recipe")) == 4
    selections = table(place / "recipe")["selections"]
    assert [one["selection"] for one in selections] == [
        "select of reward with python:rule:quick",
        "select of reward with python:rule:slow",
    ]


def test_a_step_that_outlives_its_run_keeps_the_folder(place, blocked, run):
    blocked.kill()
    blocked.wait()
    run("run", place / "recipe.toml").refuses("in use by process", "crowdselect reward")
    (place / "go").touch()
    wait_for(lambda: run("run", place / "recipe.toml").code == 0, 60)


@pytest.mark.parametrize("stop", ["ctrl-c", "terminate"])
def test_a_stop_ends_the_step_and_says_how_to_go_on(place, blocked, run, stop):
    if stop == "ctrl-c":
        os.killpg(blocked.pid, signal.SIGINT)  # as a terminal does: everybody gets it
    else:
        blocked.terminate()
    assert blocked.wait(30) == 130
    said = (place.parent / f"{place.name}.log").read_text()
    assert "run the same recipe again to resume" in said
    assert "Traceback" not in said
    (place / "go").touch()
    assert run("run", place / "recipe.toml").code == 0


def test_a_failed_step_shows_its_last_lines_and_others_can_go_on(place, run):
    write(place, BLOCKING, "rule.py")
    text = SCORED.replace("slow", "quick").replace('["python:rule:quick"], [', '["python:rule:broken"], [')
    recipe = write(place, text)
    ran = run("run", recipe)
    assert ran.code == 2
    assert "the rule is broken" in ran.err
    assert "run the same recipe again" in ran.err
    assert len(stamps(place / "recipe")) == 0
    going = run("run", recipe, "--keep-going")
    assert going.code == 2
    states = {one["step"]: one["state"] for one in table(place / "recipe")["steps"]}
    assert list(states.values()) == ["failed", "done", "left out", "done"]
    page = (place / "recipe" / "index.html").read_text()
    assert "failed; its log says why" in page
    assert "was left out" in page


def test_something_missing_is_said_and_tried_again_but_what_follows_is_kept(place, run):
    write(place, BLOCKING, "rule.py")
    text = SCORED.replace('["python:rule:quick"], ["python:rule:slow"]', '"python:rule:some"')
    recipe = write(place, text)
    ran = run("run", recipe)
    assert ran.code == 3
    assert "something is missing" in ran.err
    said = re.findall(r"\| missing: (\d+) of some: the function gave no score", ran.err)
    answers = pq.read_table(place / "pool.parquet")["response"].to_pylist()
    assert said == [str(sum(len(text) % 7 == 0 for text in answers))]
    log = next((place / "recipe" / "steps").glob("reward-*/log.txt"))
    assert f"missing: {said[0]} of some" in log.read_text()
    made = stamps(place / "recipe")
    again = run("run", recipe)
    assert again.code == 3
    assert again.err.count("| missing:") == 1  # the first attempt's line is in the log, but no news
    now = stamps(place / "recipe")
    assert [name.partition("-")[0] for name in made if now[name] != made[name]] == ["reward"]
    assert "incomplete" in (place / "recipe" / "index.html").read_text()
    strict = run("run", recipe, "--strict")
    assert strict.code == 2


# The page


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.add(tag)
        self.found += [value for name, value in attrs if name in {"href", "src"}]


def test_the_page_is_whole_and_harmless(place, run):
    text = (
        SIMPLE.replace("[[select]]", "[[select]]\nlabel = '<script>alert(1)</script>\\u202e'", 1)
        + "[compare]\ndraws = 5"
    )
    assert run("run", write(place, text)).code == 0
    page = (place / "recipe" / "index.html").read_text()
    links = Links()
    links.feed(page)
    assert "script" not in links.tags
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert len(links.found) >= 6
    for link in links.found:
        assert link.startswith("./")
        assert (place / "recipe" / link).exists(), link
