"""Files as people have them, from the first `inspect` to a training file: what `docs/first-minutes.md` says was tried."""

import csv
import json
import shlex
import zipfile
from pathlib import Path

import pytest

from commands import train
from crowdselect import open_pool

MODELS = {"oak-7b": 3, "oak-70b": 6, "Elm 2": 5}
PROMPTS = [f"What is {n} plus {n * 3 % 7}?" for n in range(40)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def score(prompt, model):
    return (PROMPTS.index(prompt) * 7 + MODELS[model]) % 10 + 0.5


def answer(prompt, model):
    return f"{model} says: {prompt}"


def chosen(run, *pool):
    """Type what `inspect` proposes, for a trainer; return the training rows."""
    seen = run("inspect", *pool)
    assert seen.code == 0, seen
    proposed = shlex.split(seen.out.splitlines()[-1])[1:]
    assert proposed[0] == "select"
    ran = run(*proposed, "--for", "axolotl")
    assert ran.code == 0, ran
    assert "axolotl train axolotl.yaml" in ran.out
    return train("chosen")


def test_answers_with_the_names_of_fastchat(run):
    with Path("judged.jsonl").open("w") as file:
        for number, prompt in enumerate(PROMPTS):
            for model in MODELS:
                row = {
                    "question_id": number,
                    "prompt": prompt,
                    "model_id": model,
                    "judge_score": score(prompt, model),
                }
                file.write(json.dumps(row | {"answer": answer(prompt, model)}) + "\n")
    rows = chosen(run, "judged.jsonl")
    assert rows[0]["messages"][1]["content"].endswith(rows[0]["messages"][0]["content"])
    assert (
        "model_id is taken for the model; answer is taken for the response"
        in run("inspect", "judged.jsonl").out
    )


@pytest.mark.parametrize("form", ["{} score", "{}_score", "Score {}", "{} Rating"])
def test_a_column_of_answers_and_one_of_scores_for_each_model(run, form):
    with Path("wide.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Prompt", *(name for model in MODELS for name in (model, form.format(model)))])
        for prompt in PROMPTS:
            table.writerow([prompt, *(x for m in MODELS for x in (answer(prompt, m), score(prompt, m)))])
    rows = chosen(run, "wide.csv")
    assert rows[0]["messages"][1]["content"].endswith(rows[0]["messages"][0]["content"])
    seen = json.loads(run("inspect", "wide.csv", "--json").out)
    assert {member["name"] for member in seen["crowd"]} == set(MODELS)


def test_a_table_from_a_spreadsheet(run):
    """With a byte-order mark, semicolons, decimal commas, and a number of the row, which is no reward."""
    with Path("Noten.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Nr.", "Frage", "Modell", "Antwort", "Note"])
        pairs = [(prompt, model) for prompt in PROMPTS for model in MODELS]
        for number, (prompt, model) in enumerate(pairs, start=1):
            note = str(score(prompt, model)).replace(".", ",")
            table.writerow([number, prompt, model, answer(prompt, model), note])
    run("inspect", "Noten.csv").refuses(
        "Noten.csv: row 1: Note is '", "pd.read_csv('Noten.csv', sep=';', decimal=',')"
    )
    columns = ("--columns", "instruction=Frage,model=Modell,response=Antwort")
    seen = run("inspect", "Noten.csv", *columns)
    assert "No reward column yet: the warning below" in seen.out
    assert "or score its answers (with a reward model" in seen.out
    assert "warning: no reward; Note may be it, as text: Noten.csv: Note is '3,5' at id " in seen.err
    assert "pd.read_csv('Noten.csv', sep=';', decimal=',').to_parquet('pool.parquet')" in seen.err
    run("select", "Noten.csv", *columns, "--budget", "3", "-o", "out").refuses("Note may be it, as text")
    run("inspect", "Noten.csv", *columns, "--reward", "Note").refuses(
        "Note is '3,5' at id ", "wanted a decimal point, '3.5'; pandas changes that"
    )
    assert "Nr. is good above" in run("inspect", "Noten.csv", *columns, "--reward", "Nr.").out


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("Punkte (0-100)", "{},5", True),
        ("verdict", "{}/10", True),
        ("share", "{} %", True),
        ("latency", "{},5", False),
        ("day", "{}.07.2025", False),
        ("text", "about {},5", False),
    ],
)
def test_a_column_of_scores_as_texts_is_found_whatever_its_name(run, name, value, is_one):
    with Path("judged.jsonl").open("w") as file:
        for at, prompt in enumerate(PROMPTS):
            for model in MODELS:
                row = {"instruction": prompt, "model": model, "response": answer(prompt, model)}
                file.write(json.dumps(row | {name: value.format(at) if at % 5 else "k. A."}) + "\n")
    seen = run("inspect", "judged.jsonl")
    assert (f"warning: no reward; {name} may be it, as text" in seen.err) == is_one
    assert ("(emptying 'k. A.')" in seen.err) == is_one
    assert ("No reward column yet" in seen.out) == ("or score its answers" in seen.out) == is_one


def spreadsheet(name, head, row, *, comma=False):
    """Write a table with semicolons whose first column is the number of the row, from 1."""
    with Path(name).open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(["Nr", *head])
        for number, prompt in enumerate(PROMPTS, start=1):
            table.writerow(
                [
                    number,
                    *(str(x).replace(".", ",") if comma and isinstance(x, float) else x for x in row(prompt)),
                ]
            )


@pytest.mark.parametrize("rows", [8, 40])
@pytest.mark.parametrize("number", ["Nr", "No.", "Row", "ref_id"])
def test_the_number_of_the_row_is_no_model(run, number, rows):
    with Path("scores.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow([number, "Prompt", *MODELS])
        for at, prompt in enumerate(PROMPTS[:rows], start=1):
            table.writerow([at, prompt, *(score(prompt, model) for model in MODELS)])
    seen = json.loads(run("inspect", "scores.csv", "--json").out)
    assert {member["name"] for member in seen["crowd"]} == set(MODELS)
    counted = f"left out, a number of the row: {number}" in seen["notes"]
    assert counted == (rows >= 10)
    assert counted or f"but no model: {number};" in seen["read_as"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("id_", ["id", "Prompt"])
def test_a_column_that_counts_rows_is_no_model_whatever_its_name(run, first, id_):
    with Path("scores.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([id_, "Lauf", *MODELS])
        for at, prompt in enumerate(PROMPTS, start=first):
            table.writerow([prompt, at, *(score(prompt, model) for model in MODELS)])
    seen = json.loads(run("inspect", "scores.csv", "--json").out)
    assert {member["name"] for member in seen["crowd"]} == set(MODELS)
    assert "left out, a number of the row: Lauf" in seen["notes"]


@pytest.mark.parametrize("name", ["uid", "question_id", "conversation_id", "taskId"])
def test_an_id_is_no_reward(run, name):
    with Path("talks.jsonl").open("w") as file:
        for number, prompt in enumerate(PROMPTS):
            for model in MODELS:
                row = {name: number, "instruction": prompt, "model": model, "response": answer(prompt, model)}
                file.write(json.dumps(row | {"quality": score(prompt, model)}) + "\n")
    seen = json.loads(run("inspect", "talks.jsonl", "--json").out)
    assert seen["reward_columns"] == ["quality"]
    assert len(chosen(run, "talks.jsonl")) == 4
    assert f"{name} is good above" in run("inspect", "talks.jsonl", "--reward", name).out


def test_a_number_of_the_instruction_is_not_proposed_first(run):
    with Path("talks.jsonl").open("w") as file:
        for number, prompt in enumerate(PROMPTS):
            for model in MODELS:
                row = {
                    "ask": number,
                    "instruction": prompt,
                    "model": model,
                    "response": answer(prompt, model),
                }
                file.write(json.dumps(row | {"quality": score(prompt, model)}) + "\n")
    seen = run("inspect", "talks.jsonl")
    assert "by their mean quality" in seen.out
    assert "no rewards unless --reward names them" in seen.err
    assert len(chosen(run, "talks.jsonl")) == 4


def _scores(prompt):
    return prompt, *(score(prompt, model) for model in MODELS)


def _pairs(prompt):
    return prompt, *(x for model in MODELS for x in (answer(prompt, model), score(prompt, model)))


def _one_whole(prompt):
    return prompt, prompt, 3, *(score(prompt, model) for model in MODELS)


WITH_COMMAS = {
    "scores": (["Prompt", *MODELS], _scores),
    "pairs": (["Prompt", *(name for m in MODELS for name in (m, f"{m} Score"))], _pairs),
    "response_MODEL": (
        ["Prompt", *(name for m in MODELS for name in (f"response_{m}", f"score_{m}"))],
        _pairs,
    ),
    "one of whole numbers": (["id", "Prompt", "whole-1b", *MODELS], _one_whole),
}


@pytest.mark.parametrize("form", WITH_COMMAS)
def test_decimal_commas_are_told_in_every_form(run, form):
    head, row = WITH_COMMAS[form]
    spreadsheet("scores.csv", head, row, comma=True)
    first = str(score(PROMPTS[0], "oak-7b"))
    told = f"is '{first.replace('.', ',')}'; wanted a decimal point, '{first}'; pandas changes that: pd.read_csv("
    run("inspect", "scores.csv").refuses("scores.csv: row 1: ", "oak-7b", told)


@pytest.mark.extra
@pytest.mark.parametrize("form", WITH_COMMAS)
def test_the_line_helps_in_every_form(run, form):
    pandas = pytest.importorskip("pandas")
    spreadsheet("scores.csv", *WITH_COMMAS[form], comma=True)
    pandas.read_csv("scores.csv", sep=";", decimal=",").to_parquet("pool.parquet")
    seen = json.loads(run("inspect", "pool.parquet", "--json").out)
    assert {member["name"] for member in seen["crowd"]} - {"whole-1b"} == set(MODELS)


@pytest.mark.extra
def test_the_line_for_decimal_commas_helps(run):
    pandas = pytest.importorskip("pandas")
    test_a_table_from_a_spreadsheet(run)
    pandas.read_csv("Noten.csv", sep=";", decimal=",").to_parquet("pool.parquet")
    run("inspect", "pool.parquet").refuses(
        "found Nr., Frage, Modell, Antwort, Note; say which is which with --columns instruction=COLUMN,model=COLUMN"
    )
    rows = chosen(run, "pool.parquet", "--columns", "instruction=Frage,model=Modell,response=Antwort")
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("name", "first"), [("x.zip", "unpack it"), ("x.XLSX", "as CSV"), ("x.pkl", "as Parquet")]
)
def test_a_file_of_another_kind_is_told_with_the_first_step(run, name, first):
    with zipfile.ZipFile(name, "w") as file:
        file.writestr("x.jsonl", "{}")
    run("inspect", name).refuses(f"{name}: ", first, "wanted .parquet")


def test_the_answers_of_one_model_are_chosen_by_their_rewards(run):
    """The proposed commands work, although there is no crowd."""
    with Path("sharegpt.json").open("w") as file:
        talk = [
            {"conversations": [{"from": "human", "value": p}, {"from": "gpt", "value": answer(p, "oak-7b")}]}
            for p in PROMPTS
        ]
        json.dump(talk, file)
    run("select", "sharegpt.json", "--model", "oak-7b", "--budget", 4, "-o", "none").refuses(
        "no reward", "`crowdselect reward` makes"
    )
    with Path("mine.py").open("w") as file:
        file.write("def words(talks):\n    return [len(talk[-1]['content']) for talk in talks]\n")
    ran = run(
        "reward",
        "sharegpt.json",
        "--model",
        "oak-7b",
        "--with",
        "python:mine.py:words",
        "--no-self-test",
        "-o",
        "rewards.parquet",
    )
    assert ran.code == 0, ran
    proposed = ran.out.splitlines()[-1]
    assert "--method reward --budget 10%" in proposed
    assert len(chosen(run, "sharegpt.json", "--model", "oak-7b", "--rewards", "rewards.parquet")) == 4
    words = ("sharegpt.json", "--model", "oak-7b", "--rewards", "rewards.parquet", "--budget", 4)
    run("select", *words, "-o", "crowd").refuses(
        "a crowd needs at least two models", "choose with --method reward"
    )


def test_battles_are_no_matrix(run):
    with Path("arena.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["id", "model_a", "model_b", "prompt", "response_a", "response_b", "winner_model_a", "winner_tie"]
        )
        table.writerows(
            [n, "oak-7b", "Elm 2", prompt, "yes", "no", n % 2, 0] for n, prompt in enumerate(PROMPTS)
        )
    run("inspect", "arena.csv").refuses("these are battles (model_a, model_b)", "score_a and score_b")


def test_a_folder_of_one_file_per_model_is_told_how(run):
    Path("evals").mkdir()
    for model in MODELS:
        with Path(f"evals/{model}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["question", "answer", "score"])
            table.writerows([prompt, answer(prompt, model), score(prompt, model)] for prompt in PROMPTS)
    run("inspect", "evals").refuses(
        "lacks the answers and the models", "--model-from file takes the model from names of files"
    )
    assert len(chosen(run, "evals", "--model-from", "file")) == 4


@pytest.mark.parametrize("indent", [None, 1])
def test_splits_in_one_document_are_told(run, indent):
    rows = [
        {"prompt": prompt, "model": model, "response": answer(prompt, model), "rating": score(prompt, model)}
        for prompt in PROMPTS
        for model in MODELS
    ]
    Path("both.json").write_text(json.dumps({"train": rows[:90], "test": rows[90:]}, indent=indent))
    seen = run("inspect", "both.json")
    assert "note: the rows of 'train' are read; left out: test" in seen.err
    assert json.loads(run("inspect", "both.json", "--json").out)["instructions"] == 30
    Path("one.json").write_text(json.dumps({"data": rows, "note": [1, 2]}, indent=indent))
    assert "left out" not in run("inspect", "one.json").err


def batch():
    """What a batch service writes, and the requests that it was sent."""
    pairs = [(prompt, model) for prompt in PROMPTS for model in MODELS]
    output, requests = [], []
    for n, (prompt, model) in enumerate(pairs):
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer(prompt, model)},
            "finish_reason": "stop",
        }
        body = {
            "id": f"c{n}",
            "created": 17,
            "model": model,
            "choices": [choice],
            "usage": {"prompt_tokens": 3},
        }
        output.append(
            {
                "id": f"b{n}",
                "custom_id": f"q{n}",
                "response": {"status_code": 200, "body": body},
                "error": None,
            }
        )
        asked = {
            "model": model,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}],
        }
        requests.append(
            {"custom_id": f"q{n}", "method": "POST", "url": "/v1/chat/completions", "body": asked}
        )
    scores = [{"judge": {"score": score(*pair), "verdict": "fair"}} for pair in pairs]
    return output, requests, scores


def lines(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("options", [(), ("--model", "oak-7b")])
def test_the_output_of_a_batch_service_lacks_what_was_asked(run, options):
    lines("batch.jsonl", batch()[0])
    run("inspect", "batch.jsonl", *options).refuses(
        "the output of a batch service", "open it and the file of requests at once"
    )


@pytest.mark.parametrize("columns", [(), ("--columns", "messages=body.messages,model=body.model")])
def test_the_requests_of_a_batch_service_are_no_answers(run, columns):
    output, requests, _ = batch()
    lines("requests.jsonl", requests)
    run("inspect", "requests.jsonl", *columns).refuses(
        "the requests that a batch service was sent, which hold no answers; open its output and them at once"
    )
    Path("errors").mkdir()
    lines("errors/requests.jsonl", requests)
    lines("errors/errors.jsonl", [row | {"response": FAILED[0]} for row in output[:3]])
    run("inspect", "errors", "--model", "oak-7b").refuses(
        "only requests that failed, and no answers; open its output, too"
    )


FAILED = (
    {"status_code": 429, "body": {"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}}},
    {"status_code": 400, "body": {"object": "error", "message": "Too long"}},
)
"""What comes back of a request that failed, from OpenAI and from vLLM."""


def batches():
    """The files of a batch per model, with the same custom_ids: requests, what came back in another order, and what failed."""
    output, requests, _ = batch()
    Path("batches").mkdir()
    for at, model in enumerate(MODELS):
        sent = [row | {"custom_id": f"q{n}"} for n, row in enumerate(requests[at :: len(MODELS)])]
        came = [row | {"custom_id": f"q{n}"} for n, row in enumerate(output[at :: len(MODELS)])]
        lines(f"batches/{model}_input.jsonl", sent)
        lines(f"batches/{model}_output.jsonl", came[:1:-1])
        if at:
            expired = {"response": None, "error": {"code": "batch_expired", "message": "Too late"}}
            lines(
                f"batches/{model}_errors.jsonl", [came[0] | {"response": FAILED[at - 1]}, came[1] | expired]
            )
    batch_list = [{"id": f"batch_{model}", "object": "batch", "status": "completed"} for model in MODELS]
    Path("batches/batches.json").write_text(json.dumps({"object": "list", "data": batch_list}, indent=2))
    with Path("grades.csv").open("w") as table:
        table.write("custom_id,model,grade\n")
        for n, prompt in enumerate(PROMPTS):
            table.writelines(f"q{n},{model},{score(prompt, model)}\n" for model in MODELS)


@pytest.mark.parametrize("path", ["batches", "batches/*.jsonl", "batches/*"])
def test_the_files_of_a_batch_service_are_read_together(run, path):
    batches()
    seen = run("inspect", path)
    assert seen.code == 0, seen
    assert "joined with 120 requests by custom_id (as the id: --columns id=custom_id)" in seen.out
    assert "note: 4 rows are of requests that failed: they hold no answer, and are left out" in seen.err
    assert "note: 2 requests have neither an answer nor an error in these files" in seen.err
    with open_pool(path) as pool:
        assert (pool.models, len(pool.ids), pool.malformed) == (tuple(sorted(MODELS)), 38, 0)
        for id_, text in zip(pool.ids, pool.instructions(), strict=True):
            prompt = text.rpartition("user: ")[2]
            assert pool.responses([(id_, model) for model in MODELS]) == [
                answer(prompt, model) for model in MODELS
            ]
    run("inspect", path, "--rewards", "grades.csv").refuses(
        "--columns id=custom_id takes those of the pool from its custom_id"
    )
    first = chosen(run, path, "--columns", "id=custom_id", "--rewards", "grades.csv")[0]["messages"]
    assert first[0] == {"role": "system", "content": "Be brief.", "train": False}
    assert first[2]["content"].endswith(first[1]["content"])


def test_a_table_among_the_files_of_a_batch_service_is_told(run):
    batches()
    Path("grades.csv").rename("batches/grades.csv")
    run("inspect", "batches").refuses(
        "holds csv and json files",
        "those of the batch service are opened as 'batches/*.jsonl', scores beside them with --rewards",
    )
    lines("other.jsonl", [{"prompt": "a", "model": "b"}])
    Path("other.csv").write_text("prompt,model\na,b\n")
    assert "batch" not in run("inspect", "other.*").err


def test_requests_under_one_custom_id_that_ask_different_things(run):
    """Of several models the model tells which is meant; nothing else does."""
    output, requests, _ = batch()
    for n, row in enumerate([*output[:4], *requests[:4]]):
        row["custom_id"] = f"q{n % 4 // 3}"  # the first prompt of all three models, and the second of one
    requests[1]["body"]["messages"] = [{"role": "user", "content": "What else?"}]
    Path("batch").mkdir()
    lines("batch/input.jsonl", requests[:4])
    lines("batch/output.jsonl", output[:4])
    with open_pool("batch") as pool:
        asked = [pool.prompts([(id_, model)])[0][-1]["content"] for id_, model in cells(pool)]
        assert sorted(asked) == sorted(["What else?", PROMPTS[0], PROMPTS[0], PROMPTS[1]])
        assert pool.prompts([(cell, "oak-70b") for cell, model in cells(pool) if model == "oak-70b"])[0] == [
            {"role": "user", "content": "What else?"}
        ]
    for row in (output[3], requests[3]):  # of a model that was asked something else under it
        row["custom_id"] = "q0"
    lines("batch/input.jsonl", requests[:4])
    lines("batch/output.jsonl", output[:4])
    run("inspect", "batch").refuses(
        "output.jsonl: line 1 has the custom_id 'q0', under which several requests ask different things",
        "2 of 4 rows are malformed",
    )
    lines("batch/output.jsonl", [*output[1:3], output[4]])
    run("inspect", "batch").refuses(
        "line 3 has the custom_id 'q4', which no request in these files has; 1 of 3 rows is malformed"
    )


def test_output_beside_the_requests_of_another_batch(run):
    batches()
    Path("batches/oak-70b_input.jsonl").unlink()
    run("inspect", "batches").refuses(
        "Elm 2_output.jsonl: line 1 has the custom_id 'q39', under which there are more answers than requests",
        "open the requests of every batch",
    )
    Path("batches/oak-7b_output.jsonl").unlink()
    Path("batches/Elm 2_input.jsonl").unlink()
    Path("batches/Elm 2_output.jsonl").unlink()
    assert (
        "note: oak-70b answered what oak-7b was asked: see that requests and output are of the same batch"
        in run("inspect", "batches").err
    )


def cells(pool):
    """The id and model of every answer."""
    return [(pool.ids[i], pool.models[j]) for i, j in zip(*pool.answered().nonzero(), strict=True)]


def test_a_failed_request_is_not_held_against_its_instruction(run):
    output, requests, _ = batch()
    rows = [
        row | {"request": {"messages": sent["body"]["messages"]}}
        for row, sent in zip(output, requests, strict=True)
    ]
    rows[4]["response"] = FAILED[0]
    lines("batch.jsonl", rows)
    assert "note: 1 row is of a request that failed" in run("inspect", "batch.jsonl").err
    with open_pool("batch.jsonl") as pool:
        assert (len(pool.ids), pool.malformed, len(cells(pool))) == (40, 0, 119)


def test_what_a_batch_service_may_also_answer_is_told(run):
    output, requests, _ = batch()
    for came, sent in zip(output, requests, strict=True):
        said = came["response"]["body"].pop("choices")[0]["message"]["content"]
        came["response"]["body"]["output"] = [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]}
        ]
        sent["body"]["input"] = sent["body"].pop("messages")[1]["content"]
    Path("batch").mkdir()
    lines("batch/input.jsonl", requests)
    lines("batch/output.jsonl", output)
    refused = run("inspect", "batch")
    refused.refuses("chat and text completions are read", "answers of /v1/responses are read with --columns ")
    named = shlex.split(refused.err.rpartition("read with ")[2])
    assert run("inspect", "batch", *named).code == 0
    with open_pool("batch", columns=dict(part.split("=") for part in named[1].split(","))) as pool:
        assert len(cells(pool)) == 120
        assert pool.responses([(pool.ids[0], "Elm 2")]) == [answer(pool.instructions()[0], "Elm 2")]


@pytest.mark.parametrize("place", ["request", "request.body", "body"])
def test_the_output_of_a_batch_service_with_its_requests(run, place):
    rows = []
    for output, request, scored in zip(*batch(), strict=True):
        asked = {"request": request["body"], "request.body": {"body": request["body"]}}.get(place)
        rows.append(output | scored | ({"request": asked} if asked else {"body": request["body"]}))
    rows[4]["response"] = {"status_code": 500, "body": None}
    rows[5]["response"]["body"]["choices"] *= 2
    rows[5]["response"]["body"]["choices"][1] = {"message": {"content": "Again."}, "finish_reason": "length"}
    lines("batch.jsonl", rows)
    first = chosen(run, "batch.jsonl")[0]["messages"]
    assert first[0] == {"role": "system", "content": "Be brief.", "train": False}
    assert first[2]["content"].endswith(first[1]["content"])
    with open_pool("batch.jsonl") as pool:
        assert (pool.models, len(pool.ids), pool.usual_reward) == (tuple(sorted(MODELS)), 40, "judge.score")
        at = dict(zip(pool.instructions(), pool.ids, strict=True))
        id_ = next(own for text, own in at.items() if text.endswith(PROMPTS[1]))
        said = pool.responses([(id_, model) for model in MODELS])
        assert said == [answer(PROMPTS[1], "oak-7b"), None, answer(PROMPTS[1], "Elm 2")]
        assert pool.responses([(id_, "Elm 2")], [1.0]) == ["Again."]


def test_a_batch_of_texts_is_read_and_one_of_other_answers_is_not(run):
    rows = [
        {
            "custom_id": f"q{n}",
            "request": {"prompt": prompt},
            "response": {"body": {"model": model, "choices": [{"text": answer(prompt, model)}]}},
        }
        for n, (prompt, model) in enumerate((prompt, model) for prompt in PROMPTS for model in MODELS)
    ]
    lines("batch.jsonl", rows)
    with open_pool("batch.jsonl") as pool:
        assert len(pool.ids) == len(set(pool.instructions()) & set(PROMPTS)) == 40
        assert pool.responses([(pool.ids[0], "Elm 2")]) == [answer(pool.instructions()[0], "Elm 2")]
    for row in rows:
        row["response"]["body"]["output"] = row["response"]["body"].pop("choices")
    lines("batch.jsonl", rows)
    run("inspect", "batch.jsonl").refuses("and choices in response.body; found model, output there")


def test_scores_in_the_output_of_a_batch_service_count(run):
    output, requests, scores = batch()
    Path("batch").mkdir()
    output[4]["response"] = FAILED[0]
    lines("batch/output.jsonl", [row | scored for row, scored in zip(output, scores, strict=True)])
    lines("batch/requests.jsonl", requests)
    assert len(chosen(run, "batch")) == 4
    with open_pool("batch") as pool:
        assert (len(cells(pool)), len(pool.scores("judge.score").nonzero()[0])) == (119, 120)


def _battles(sides, name):
    """Write every model against every other for each prompt, as a table, under names made of what a column holds and its side."""
    with Path("battles.csv").open("w", newline="") as file:
        table = csv.writer(file)
        held = ("model", "answer", "score")
        table.writerow(["prompt", *(name(what, side) for side in sides for what in held), "winner"])
        for prompt in PROMPTS:
            for pair in (list(MODELS)[at:] + list(MODELS)[:at] for at in range(3)):
                values = [x for m in pair[:2] for x in (m, answer(prompt, m), score(prompt, m))]
                table.writerow([prompt, *values, "first"])


@pytest.mark.parametrize(
    ("sides", "name"),
    [
        ("AB", lambda what, side: f"{what.replace('answer', 'response')}_{side}"),
        (("chosen", "rejected"), lambda what, side: side if what == "answer" else f"{side}_{what}"),
    ],
)
def test_battles_and_pairs_with_scores_are_a_crowd(run, sides, name):
    _battles(sides, name)
    rows = chosen(run, "battles.csv")
    assert len(rows) == 4
    assert rows[0]["messages"][1]["content"].endswith(rows[0]["messages"][0]["content"])
    seen = json.loads(run("inspect", "battles.csv", "--json").out)
    assert seen["instructions"] == 40
    assert {member["name"] for member in seen["crowd"]} == set(MODELS)
    assert all(member["coverage"] == {"score": 1.0} for member in seen["crowd"])


def test_a_text_in_a_cell_of_scores_is_told_with_its_column(run):
    with Path("wide.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Frage", *(name for m in MODELS for name in (m, f"{m} score"))])
        for at, prompt in enumerate(PROMPTS):
            table.writerow(
                [
                    prompt,
                    *(
                        x
                        for m in MODELS
                        for x in (answer(prompt, m), "k.A." if at == 3 else score(prompt, m))
                    ),
                ]
            )
    columns = ("--columns", "instruction=Frage")
    run("inspect", "wide.csv", *columns).refuses(
        "wide.csv: row 4: Elm 2 score is 'k.A.', not a number", "--skip-invalid"
    )
    assert len(chosen(run, "wide.csv", *columns, "--skip-invalid")) == 4
