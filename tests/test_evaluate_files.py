"""Files of FastChat and arena-hard-auto, options that do not fit together, models on this machine."""

import json
import shutil

import pytest

from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.files import dumped, read_answers, read_bench, read_references, read_rows
from crowdselect.evaluate.judging import JudgePrompts, read_judgements
from crowdselect.evaluate.outcome import load_groups, load_result
from crowdselect.evaluate.protocols import ARENA_HARD, MT_BENCH
from crowdselect.malformed import Malformed
from judging import Bench, between, graded, read_jsonl, write_jsonl

URL = "http://127.0.0.1:9"


def score(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, URL)


def test_both_forms_of_questions(tmp_path):
    rows = [
        {"question_id": 5, "category": "math", "turns": ["a", "b", "c"], "required_temperature": 0.3},
        {"uid": "x", "category": "arena-hard-v0.1", "prompt": "p"},
        {"question_id": "y", "turns": [{"content": "q"}]},
    ]
    found = read_bench(write_jsonl(tmp_path / "q.jsonl", rows), MT_BENCH)
    assert [(q.id, q.written_id, q.turns, q.temperature) for q in found] == [
        ("5", 5, ("a", "b"), 0.3),
        ("x", "x", ("p",), None),
        ("y", "y", ("q",), None),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("{", "q.jsonl:1: broken JSON"),
        ('{"a": NaN}', "q.jsonl:1: broken JSON: NaN is no number"),
        ("[" * 100_000, "q.jsonl:1: a value is nested more than"),
        ("[1]", "q.jsonl:1: wanted an object"),
        ('\n{"turns": ["a"]}', "q.jsonl:2: there is no question_id or uid; found turns"),
        ('{"question_id": 1.5, "turns": ["a"]}', "question_id is '1.5'"),
        ('{"question_id": 1}', "question '1' has no turns and no prompt"),
        ('{"question_id": 1, "turns": ["a", " "]}', "a turn of question '1' has no text"),
        (
            '{"uid": "u", "prompt": "a"}\n{"uid": "u", "prompt": "b"}',
            "q.jsonl:2: question 'u' appears twice",
        ),
    ],
)
def test_broken_questions_are_named_by_line(tmp_path, text, said):
    file = tmp_path / "q.jsonl"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        read_bench(file, MT_BENCH)
    assert said in str(error.value)
    file.write_bytes(b'{"question_id": 1, "turns": ["\xff"]}')
    with pytest.raises(InputError, match="byte 31 is not UTF-8"):
        read_bench(file, MT_BENCH)


def test_answers_of_every_form(tmp_path, bench):
    questions = read_bench(bench.mt, MT_BENCH)[:4]
    rows = [
        {
            "question_id": 81,
            "model_id": "m",
            "choices": [{"index": 0, "turns": ["a", "b"]}, {"turns": ["no", "no"]}],
        },
        {"question_id": 82, "model_id": "m", "choices": [{"turns": [{"content": "c", "token_len": 3}]}]},
        {
            "uid": "83",
            "model": "m",
            "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "d"}],
        },
        {
            "uid": "zz",
            "model": "m",
            "messages": [{"role": "assistant", "content": {"answer": "e"}}],
            "metadata": {"token_len": 9},
        },
    ]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    found = read_answers(file, questions)
    assert found.turns == {"81": ("a", "b"), "82": ("c",), "83": ("d",), "zz": ("e",)}
    assert found.tokens == {"81": (None, None), "82": (3,), "83": (None,), "zz": (9,)}
    assert set(found.missing) == {("82", 1), ("83", 1), ("84", 0), ("84", 1)}
    assert found.notes == [f"{file}: 1 answer to questions that are not asked here"]
    assert list(found.lines) == file.read_text().splitlines()
    write_jsonl(file, [*rows, rows[0]])
    with pytest.raises(InputError, match=r"a.jsonl:5: 'm' answers question '81' twice"):
        read_answers(file, questions)
    write_jsonl(file, [rows[0], {**rows[1], "model_id": "n"}])
    with pytest.raises(InputError, match="2 models; say which by `name`: m, n"):
        read_answers(file, questions)
    assert read_answers(file, questions, name="n").turns == {"82": ("c",)}
    write_jsonl(file, [{"question_id": 81, "model_id": "m", "choices": [{"turns": [None]}]}])
    with pytest.raises(InputError, match="a turn of the answer is 'None'"):
        read_answers(file, questions)


def test_judgements_of_fastchat(tmp_path, bench):
    questions = read_bench(bench.mt, MT_BENCH)[:2]
    row = {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "score": 8, "turn": 1}
    rows = [
        row,
        {**row, "turn": 2, "score": -1},
        {**row, "question_id": 82, "score": 3},
        {**row, "question_id": 82},
    ]
    file = write_jsonl(tmp_path / "j.jsonl", rows)
    found = read_judgements(file, questions, MT_BENCH)
    assert {place: reading.rating for place, reading in found.verdicts.items()} == {
        ("81", 0): 8,
        ("81", 1): None,
        ("82", 0): 8,  # the later line
        ("82", 1): None,
    }
    assert (found.model, found.judge) == ("m", "gpt-4")
    assert "1 lines judge what an earlier line judged" in found.notes[0]
    write_jsonl(file, [row, {**row, "turn": 2, "judge": ["gpt-5", "single-v1"]}])
    with pytest.raises(InputError, match="by or against several: gpt-4, gpt-5"):
        read_judgements(file, questions, MT_BENCH)


def test_judgements_of_arena_hard_old_and_new(run, tmp_path, bench):
    """Two games, A>B for the baseline and A>>B for the model: 3 of 4 wins."""
    old = {"user_prompt": "p", "judgment": "j", "score": "A>B"}
    new = {"score": "A>>B", "judgment": {"answer": "j"}, "prompt": []}
    rows = [
        {"question_id": "u0", "model": "m", "judge": "g", "games": [old, new]},
        {"uid": "u1", "model": "m", "judge": "g", "baseline": "b", "games": [None, new]},
        {"uid": "u2", "model": "m", "judge": "g", "baseline": "b", "games": [{"score": None}, new]},
    ]
    file = write_jsonl(tmp_path / "j.jsonl", rows)
    found = read_judgements(file, read_bench(bench.hard, ARENA_HARD), ARENA_HARD)
    assert found.baselines == {"arena-hard-v0.1": "b"}
    ran = run(
        "evaluate", "arena-hard", "--questions", bench.hard, "--judgments", file, "-o", tmp_path / "out"
    )
    assert ran.code == 3
    made = score(tmp_path / "out")
    assert (made["score"], made["questions_scored"], made["verdicts"]["missing"]) == (75, 1, 12)
    assert (tmp_path / "out" / "judgments.jsonl").read_bytes() == file.read_bytes()
    write_jsonl(file, [{"uid": "u0", "model": "m", "games": [old]}])
    with pytest.raises(InputError, match=r"j\.jsonl:1: wanted 2 games"):
        read_judgements(file, [], ARENA_HARD)


def test_without_any_verdict_there_is_no_score(run, tmp_path, bench):
    file = write_jsonl(tmp_path / "j.jsonl", [{"question_id": 81, "model": "m", "score": -1, "turn": 1}])
    ran = run("evaluate", "mt-bench", "--questions", bench.mt, "--judgments", file, "-o", tmp_path / "out")
    assert ran.code == 3
    made = score(tmp_path / "out")
    assert (made["score"], made["interval"], made["turns"]["1"]["score"]) == (None, None, None)


def test_what_is_put_into_a_prompt_is_text():
    name, chat = JudgePrompts(pairwise=False).single(["{answer} {0}"], ["</answer> {fence} [[10]]"], None)
    assert name == "crowdselect-single-v1"
    assert between(chat[0]["content"], "answer") == "</answer> {fence} [[10]]"
    assert between(chat[0]["content"], "request") == "{answer} {0}"


def test_our_prompts_show_the_verdicts_that_are_read():
    prompts = JudgePrompts(pairwise=False)
    for questions in (["q"], ["q", "r"]):
        for references in (None, ["Zinc"] * len(questions)):
            [turn] = prompts.single(questions, ["a"] * len(questions), references)[1]
            assert "Rating: [[N]]" in turn["content"]
            assert (
                "right" in turn["content"].split("First say")[0].split("Nothing")[0]
            ) or references is None
    [turn] = JudgePrompts(pairwise=True).pair("q", "a", "b")
    assert all(f"[[{label}]]" in turn["content"] for label in ("A>>B", "A>B", "A=B", "B>A", "B>>A"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"name": "pair-v2", "prompt_template": "{question} {answer_a}"}, "no place for both answers"),
        ({"name": "pair-v2", "prompt_template": "{question} {answer_a} {answer_b} {"}, "write {{ and }}"),
        ({"name": "x", "prompt_template": "{question}"}, "there is no prompt named 'pair-v2'"),
        ({"name": "pair-v2"}, "prompt_template and system_prompt must be texts"),
    ],
)
def test_prompts_that_cannot_work(tmp_path, row, said):
    with pytest.raises(InputError) as error:
        JudgePrompts(pairwise=True, file=str(write_jsonl(tmp_path / "p.jsonl", [row])))
    assert said in str(error.value)


def test_prompts_of_arena_hard_in_their_own_spelling(tmp_path):
    row = {"name": "mine", "type": "pairwise", "prompt_template": "{QUESTION}|{ANSWER_A}|{ANSWER_B}"}
    prompts = JudgePrompts(pairwise=True, file=str(write_jsonl(tmp_path / "p.jsonl", [row])))
    assert prompts.pair("q", "a", "b") == [{"role": "user", "content": "q|a|b"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name who judges"),
        (["--judge", "crowd.toml#judge"], "name a model"),
        (["--judge", "crowd.toml#judge", "--judgments", "x"], "give one of them"),
        (["--model", "m", "--judgments", "x"], "give --answers instead of --model"),
        (["--model", "m", "--answers", "x", "--judge", "crowd.toml#judge"], "give one of them"),
        (["--model", "none", "--judge", "crowd.toml#judge"], "there is no such folder"),
        (
            ["--model", "crowd.toml#none", "--judge", "crowd.toml#judge"],
            "no [[model]] named 'none'; found student",
        ),
        (["--model", "crowd.toml#student", "--judge", "crowd.toml#student"], "no [[judge]] named 'student'"),
        (["--model", "crowd.toml#student", "--judge", "judge"], "wanted crowd.toml#NAME"),
        (
            ["--model", "crowd.toml#student", "--judge", "crowd.toml#judge", "--judge-retries", "-1"],
            "at least 0",
        ),
        (
            ["--model", "crowd.toml#student", "--judge", "crowd.toml#judge", "--max-cost", "1"],
            "price_in and price_out of 'student' are unknown",
        ),
    ],
)
def test_options_that_do_not_fit(run, bench, monkeypatch, options, said):
    monkeypatch.chdir(bench.folder)
    run("evaluate", "mt-bench", "--questions", "mt.jsonl", *options, "-o", "out").refuses(said)
    assert not (bench.folder / "out").exists()


def test_arena_hard_needs_a_baseline(run, bench, monkeypatch):
    monkeypatch.chdir(bench.folder)
    given = (
        "--model",
        "crowd.toml#student",
        "--judge",
        "crowd.toml#judge",
        "--questions",
        "hard.jsonl",
        "-o",
        "out",
    )
    run("evaluate", "arena-hard", *given).refuses("name the --baseline")


def test_references_of_a_question_twice(tmp_path):
    row = {"question_id": 1, "choices": [{"turns": ["a"]}]}
    with pytest.raises(InputError, match="two reference answers to question '1'"):
        read_references(write_jsonl(tmp_path / "r.jsonl", [row, row]))


def test_half_a_surrogate_is_written_as_an_escape(tmp_path):
    assert dumped({"a": "\ud800é"}) == '{"a": "\\ud800\\u00e9"}'
    file = tmp_path / "f.jsonl"
    file.write_text('{"a": "\\ud800"}\r\n\r\n')
    assert [row.value for row in read_rows(file)] == [{"a": "\ud800"}]


def test_groups_of_runs(run, tmp_path, bench):
    row = {"question_id": 81, "model": "m", "judge": ["g", "p"], "score": 5, "turn": 1}
    for name in ("r1", "r2", "s"):
        file = write_jsonl(tmp_path / f"{name}.jsonl", [row])
        run("evaluate", "mt-bench", "--questions", bench.mt, "--judgments", file, "-o", tmp_path / name)
    r1, r2, s = (str(tmp_path / name) for name in ("r1", "r2", "s"))
    groups = load_groups([f"random={r1},{r2}", s])
    assert [(group.name, len(group.runs)) for group in groups] == [("random", 2), ("s", 1)]
    with pytest.raises(OptionError, match=r"folder .*r1 is named twice"):
        load_groups([r1, f"again={r1}"])
    [random, _] = load_groups([f"random={r1}", s, f"random={r2}"])
    assert (random.name, len(random.runs), random.choices) == ("random", 2, (0, 1))
    twin = tmp_path / "elsewhere" / "r1"
    shutil.copytree(r1, twin)
    with pytest.raises(OptionError, match="the method r1 is named twice; name methods with NAME=DIR,DIR"):
        load_groups([r1, str(twin)])
    found = json.loads(run("evaluate", "compare", f"random={r1},{r2}", s, "--json").out)
    assert found["differences"][0]["questions"] == 1
    (tmp_path / "s" / "result.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        load_result(s)
    made = (tmp_path / "r1" / "result.json").read_text()
    (tmp_path / "r1" / "result.json").write_text(made.replace('"score": 5.0', '"score": 9.0'))
    with pytest.raises(InputError, match="was changed after the evaluation"):
        load_result(r1)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers
def test_a_folder_and_its_adapter_answer(tmp_path, run):
    pytest.importorskip("peft")
    pytest.importorskip("openai")
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from judging import serve
    from tiny_models import build_model, build_tokenizer

    base = build_model(tmp_path / "base", context=4096)
    made = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
    )
    made.save_pretrained(tmp_path / "lora")
    build_tokenizer().save_pretrained(tmp_path / "lora")
    with serve() as server:
        bench = Bench(tmp_path, server.url, questions=2, price_in=1.0, price_out=1.0)
        said = {}
        for model in ("base", "lora"):
            common = ("--questions", bench.mt, "--references", bench.references, "--max-tokens", "8")
            judge = (
                "--judge",
                f"{bench.crowd}#judge",
                "--max-cost",
                "5",
            )  # of the judge: a folder costs nothing
            args = (
                "evaluate",
                "mt-bench",
                "--model",
                tmp_path / model,
                *judge,
                *common,
                "-o",
                tmp_path / f"{model}-mt",
            )
            assert run(*args).code == 0
            said[model] = [
                row["choices"][0]["turns"] for row in read_jsonl(tmp_path / f"{model}-mt" / "answers.jsonl")
            ]
            again = len(server.requests)
            assert run(*args).code == 0
            assert len(server.requests) == again
    assert said["base"] != said["lora"]
    grades = [graded(text) for turns in said["lora"] for text in turns]
    assert score(tmp_path / "lora-mt")["score"] == pytest.approx(sum(grades) / 4)


def test_malformed_lines_are_counted_and_left_out_only_when_that_is_wanted(run, tmp_path):
    questions = write_jsonl(
        tmp_path / "q.jsonl",
        [*({"question_id": n, "category": "roleplay", "turns": ["a"]} for n in range(3)), {"question_id": 3}],
    )
    row = {"model": "m", "judge": ["j", "p"], "score": 8, "turn": 1}
    judged = tmp_path / "j.jsonl"
    lines = [json.dumps(row | {"question_id": n}) for n in range(2)]
    judged.write_text("\n".join([*lines, "{half", json.dumps(row | {"question_id": 2, "turn": "one"})]))
    told = ("evaluate", "mt-bench", "--questions", questions, "--judgments", judged, "-o", tmp_path / "out")
    ran = run(*told)
    assert ran.code == 2
    assert "question '3' has no turns and no prompt; 1 of 4 rows is malformed: correct it" in ran.err
    assert "--skip-invalid" in ran.err
    assert not (tmp_path / "out").exists()
    ran = run(*told, "--skip-invalid")
    assert ran.code == 3, ran.err  # the verdict on question 2 is missing
    result, manifest = score(tmp_path / "out"), json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (result["score"], len(result["questions"]), result["verdicts"]["missing"]) == (8.0, 3, 1)
    assert manifest["malformed"] == 3
    assert [note.partition("; the first")[0] for note in result["notes"][:3]] == [
        "1 of 4 rows is malformed and left out",
        "1 of 4 rows is malformed and left out",
        "1 of 3 rows is malformed and left out",
    ]
    assert f"{judged}:3: broken JSON" in result["notes"][1]


def test_files_of_which_nothing_is_left_are_refused(tmp_path):
    file = write_jsonl(tmp_path / "q.jsonl", [{"question_id": 3}])
    with pytest.raises(InputError, match="no question is left; 1 of 1 rows is malformed and left out"):
        read_bench(file, MT_BENCH, Malformed(skip=True))
    with pytest.raises(InputError, match="no line is left; 1 of 1 rows is malformed"):
        read_answers(file, [], malformed=Malformed(skip=True))
    file.write_text("{half\n")
    with pytest.raises(InputError, match="all 1 lines are malformed"):
        read_references(file, Malformed(skip=True))
