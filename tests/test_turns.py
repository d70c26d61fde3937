"""Questions of several turns, all the way: every model answers after its own earlier answers, and those go along."""

import json
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.ask.calls import Reply, ScriptedClient
from crowdselect.collect.job import Task, collect
from crowdselect.pool.pool import open_pool

MODELS = ("ash-1b", "ash-7b", "elm-7b")
ROWS = [{"id": f"t{n}", "turns": [f"Name a bird, {n}.", f"And a fish, {n}?"]} for n in range(6)]
ROWS += [{"id": f"s{n}", "instruction": f"A single question, {n}."} for n in range(2)]
MARK = "turn_marks"


def say(name, request):
    """Every model has words of its own, but for t0, where two first say the same; later samples are better."""
    last = request.messages()[-1]["content"]
    first = last.startswith("Name")
    if first and last.endswith("0.") and name != "ash-1b":
        return Reply("Wren.", "stop")
    return Reply(f"{name} says {'robin' if first else 'carp'}{'!' * request.sample} to {last}", "stop")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "crowd.toml").write_text(
        "".join(f'[[model]]\nname = "{name}"\nbase_url = "http://127.0.0.1:9/v1"\n' for name in MODELS)
    )
    (tmp_path / f"{MARK}.py").write_text(
        "def mark(conversations):\n"
        "    order = ('ash-1b', 'ash-7b', 'elm-7b')\n"
        "    return [sum(10 * order.index(m) for m in order if m in c[-1]['content']) + len(c[-2]['content']) % 7\n"
        "            + len(c[1]['content']) / 100 for c in conversations]\n"
    )
    return tmp_path


def gather(folder, samples=1):
    task = Task("in.jsonl", "crowd.toml", "pool.parquet", samples=samples)
    collect(task, clients=lambda endpoint: ScriptedClient(lambda request: say(endpoint.name, request)))
    return pq.read_table(folder / "pool.parquet").to_pylist()


def history(row):
    return row["messages"] or [{"role": "user", "content": row["instruction"]}]


def turns_of(record, style):
    """(messages before the answer, answer) of a training record, whatever its format."""
    if style == "messages":
        *before, last = record["messages"]
        return before, last["content"]
    if style == "sharegpt":
        roles = {"human": "user", "gpt": "assistant"}
        chat = [{"role": roles[t["from"]], "content": t["value"]} for t in record["conversations"]]
        return chat[:-1], chat[-1]["content"]
    if style == "alpaca":
        chat = [text for pair in record["history"] for text in pair] + [record["instruction"]]
        return [
            {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(chat)
        ], record["output"]
    answer = record["chosen" if style == "dpo" else "completion"]
    return record["prompt"], answer[0]["content"]


def choose(run, folder, *options):
    done = run("select", "pool.parquet", "--rewards", "r.parquet", "--clusters", 0, "-o", "out", *options)
    assert done.code == 0, done
    records = [json.loads(line) for line in (folder / "out" / "train.jsonl").read_text().splitlines()]
    return records, pq.read_table(folder / "out" / "selection.parquet").to_pylist()


@pytest.mark.parametrize("style", ["messages", "prompt-completion", "sharegpt", "alpaca"])
def test_a_training_record_holds_the_history_of_its_own_model(style, folder, run):
    rows = {(row["id"], row["model"]): row for row in gather(folder)}
    assert run("reward", "pool.parquet", "--with", f"python:{MARK}:mark", "-o", "r.parquet").code == 0
    with open_pool("pool.parquet") as pool:
        assert pool.instructions()[2] == "user: Name a bird, 0.\n\nuser: And a fish, 0?"
    for answer in ("best", "model:ash-1b", "random"):
        records, table = choose(
            run, folder, "--budget", 7, "--format", style, "--answer", answer, "--overwrite"
        )
        models = {row["id"]: row["model"] for row in table if row["selected"]}
        assert len(records) == 7
        for record in records:
            row = rows[record["id"], models[record["id"]]]
            assert turns_of(record, style) == (history(row), row["response"])


def test_scores_are_of_each_models_own_conversation(folder, run):
    rows = gather(folder, samples=2)
    assert run("reward", "pool.parquet", "--with", f"python:{MARK}:mark", "-o", "r.parquet").code == 0
    scores = {
        (row["id"], row["model"], row["sample"]): row["score"]
        for row in pq.read_table(folder / "r.parquet")
        .rename_columns(
            [{"mark": "score"}.get(name, name) for name in pq.read_table(folder / "r.parquet").column_names]
        )
        .to_pylist()
    }
    assert len(scores) == len(rows) == 8 * 3 * 2
    for row in rows:
        chat = [*history(row), {"role": "assistant", "content": row["response"]}]
        expected = sum(10 * n for n, name in enumerate(MODELS) if name in row["response"])
        expected += len(chat[-2]["content"]) % 7 + len(chat[1]["content"]) / 100
        assert scores[row["id"], row["model"], row["sample"]] == pytest.approx(expected)


def test_of_several_samples_the_history_of_the_one_that_is_taken(folder, run):
    gather(folder, samples=3)
    table = pq.read_table("pool.parquet")
    said = [
        "" if row["sample"] == 0 and row["model"] == "elm-7b" else row["response"]
        for row in table.to_pylist()
    ]
    place = table.column_names.index("response")
    pq.write_table(table.set_column(place, "response", pa.array(said)), "pool.parquet")
    rows = {
        (row["id"], row["model"], row["sample"]): row for row in pq.read_table("pool.parquet").to_pylist()
    }
    assert (
        run("reward", "pool.parquet", "--with", f"python:{MARK}:mark", "-o", "r.parquet").code == 3
    )  # empty ones have none
    records, chosen = choose(run, folder, "--budget", 6, "--answer", "model:elm-7b")
    assert {row["model"] for row in chosen if row["selected"]} == {"elm-7b"}
    taken = {row["id"]: row for row in chosen}
    marks = {
        (row["id"], row["model"], row["sample"]): row["mark"]
        for row in pq.read_table("r.parquet").to_pylist()
    }
    for record in records:
        sample, reward = taken[record["id"]]["sample"], taken[record["id"]]["reward"]
        row = rows[record["id"], "elm-7b", sample]
        assert record["messages"] == [*history(row), {"role": "assistant", "content": row["response"]}]
        own = {number: marks[record["id"], "elm-7b", number] for number in (1, 2)}  # the first is empty
        assert own[sample] == reward == max(own.values())


def test_a_pair_is_of_two_answers_to_the_same_messages(folder, run):
    rows = {(row["id"], row["model"]): row for row in gather(folder)}
    assert run("reward", "pool.parquet", "--with", f"python:{MARK}:mark", "-o", "r.parquet").code == 0
    done = run(
        *("select", "pool.parquet", "--rewards", "r.parquet", "--clusters", 0, "-o", "out"),
        *("--budget", 3, "--pairs", "best-worst"),
    )
    assert done.code == 0, done
    records = [json.loads(line) for line in (folder / "out" / "train.jsonl").read_text().splitlines()]
    table = {row["id"]: row for row in pq.read_table("out/selection.parquet").to_pylist()}
    assert {record["id"] for record in records} == {"t0", "s0", "s1"}  # elsewhere every history is another
    assert {row["reason"] for id_, row in table.items() if id_ not in {"t0", "s0", "s1"}} == {"no_pair"}
    for record in records:
        chosen, rejected = (
            rows[record["id"], table[record["id"]][name]] for name in ("model", "rejected_model")
        )
        assert record["prompt"] == history(chosen) == history(rejected)
        assert (record["chosen"][0]["content"], record["rejected"][0]["content"]) == (
            chosen["response"],
            rejected["response"],
        )
    told = run("why", "out", "t3")
    assert "no two answers to one prompt" in told.out, told
    done = run(
        *("select", "pool.parquet", "--rewards", "r.parquet", "--clusters", 0, "-o", "more"),
        *("--budget", 4, "--pairs", "best-worst"),
    )
    assert done.code == 2
    assert "3 instructions are eligible" in done.err


def test_other_commands_open_such_a_pool(folder, run):
    gather(folder, samples=2)
    assert run("reward", "pool.parquet", "--with", f"python:{MARK}:mark", "-o", "r.parquet").code == 0
    choose(run, folder, "--budget", 4)
    choose_again = ("select", "pool.parquet", "--rewards", "r.parquet", "--clusters", 0, "--budget", 4)
    assert run(*choose_again, "-o", "other", "--answer", "random").code == 0
    for command in (
        ("inspect", "pool.parquet", "--rewards", "r.parquet"),
        ("metrics", "pool.parquet", "--rewards", "r.parquet", "-o", "metrics.parquet"),
        ("why", "out", "t0"),
        *([("report", "out", "-o", "report.html")] if find_spec("altair") else []),
        ("compare", "out", "other", "-o", "compare.html"),
    ):
        done = run(*command)
        assert done.code == 0, (command, done)
