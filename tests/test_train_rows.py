"""What `train` reads and says before any model is there: rows, settings, checkpoints, losses; needs no extra."""

import json
import sys
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect._optional import install_command
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.selection.formats import PAPER_TRAINING, record, record_schema
from crowdselect.selection.records import FORMATS, RL
from crowdselect.selection.rl import FORMS, HOLDS_REFERENCE, Prompt, schema
from crowdselect.train.diary import drawn, losses
from crowdselect.train.rows import TrainRows, divide, read_rows
from crowdselect.train.settings import TrainSettings, with_preset
from crowdselect.train.workplace import differences, occupy, workplace

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "How many\ndays — in a «year»?"},
]
ASKED = [{"role": "user", "content": "Why?"}]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(rows, name="train.jsonl"):
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return name


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        *((name, None) for name in FORMATS if name != RL),
        ("messages", "llamafactory"),
        ("dpo", "llamafactory"),
        ("dpo", "ms-swift"),
        ("dpo", "open-instruct"),
    ],
)
def test_every_format_that_is_exported_is_read_back(name, trainer, ending):
    rejected = "A few." if name == "dpo" else None
    wanted = [("a", TALK, "365, or 366.", rejected), ("b", ASKED, "  Because.\n", rejected)]
    made = [
        record(name, instruction_id=i, prompt=p, answer=a, rejected=r, trainer=trainer)
        for i, p, a, r in wanted
    ]
    file = f"train.{ending}"
    if ending == "jsonl":
        written(made)
    else:
        pq.write_table(pa.Table.from_pylist(made, record_schema(name, trainer=trainer)), file)
    found = read_rows(file)
    assert [(r.id, r.prompt, r.answer, r.rejected) for r in found.rows] == wanted
    assert found.has_pairs == (name == "dpo")


def test_a_selection_is_read_with_its_manifest_and_nothing_but_its_content_counts(run, sim):
    options = ("--budget", 6, "--clusters", 0)
    for name in ("messages", "alpaca"):
        assert run("select", sim, *options, "--format", name, "-o", name).code == 0
    one, two = read_rows("messages"), read_rows("alpaca")
    assert one.manifest["counts"]["selected"] == len(one.rows) == 6
    assert one.fingerprint() == two.fingerprint() == TrainRows(one.rows[::-1], one.file, None).fingerprint()
    assert run("select", sim, *options, "--answer", "random", "-o", "other").code == 0
    assert read_rows("other").fingerprint() != one.fingerprint()


TOOLS = [{"type": "function", "function": {"name": "weather"}}]
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}],
}
CALLED = [*ASKED, CALL, {"role": "tool", "content": "Rain.", "tool_call_id": "1"}]


@pytest.mark.parametrize("as_text", [False, True])
def test_calls_of_tools_are_read_as_select_writes_them(as_text):
    tools = json.dumps(TOOLS) if as_text else TOOLS
    answer = {"role": "assistant", "content": "It rains."}
    row = read_rows(written([{"id": "a", "messages": [*CALLED, answer], "tools": tools}])).rows[0]
    assert (json.loads(row.tools), row.answer, row.tool_names) == (TOOLS, "It rains.", {"weather"})
    (called,) = row.prompt[1]["tool_calls"]
    assert called["function"]["arguments"] == {"city": "Rome"}  # as chat templates read them
    assert row.prompt[2] == CALLED[2]


def test_an_answer_that_is_a_call_and_tools_that_are_none_are_named():
    with pytest.raises(
        InputError, match=r"\(id 'a'\): the answer is a call of tools; only texts are trained on"
    ):
        read_rows(written([{"id": "a", "messages": [*ASKED, CALL]}]))
    with pytest.raises(InputError, match=r"\(id 'a'\): tools is 'weather'; wanted a list"):
        read_rows(written([GOOD | {"tools": "weather"}]))


def test_rows_without_an_id_are_called_after_their_content():
    rows = [{"messages": [*ASKED, {"role": "assistant", "content": text}]} for text in ("x", "y", "x")]
    ids = [row.id for row in read_rows(written(rows)).rows]
    assert ids[0] == ids[2] != ids[1]


GOOD = {"id": "a", "prompt": ASKED, "completion": [{"role": "assistant", "content": "So."}]}


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"id": "a", "text": "x"}, ["line 2 (id 'a') has id, text; wanted messages"]),
        (GOOD | {"prompt": "Why?"}, ["line 2 (id 'a'): prompt is not a list of messages"]),
        (GOOD | {"completion": [{"role": "assistant", "content": " \n"}]}, ["the answer is empty"]),
        (GOOD | {"completion": [{"role": "assistant", "content": None}]}, ["content as text"]),
        (GOOD | {"completion": GOOD["completion"] * 2}, ["completion has 2 messages; wanted one"]),
        (GOOD | {"completion": ASKED}, ["the last message is of 'user'"]),
        (GOOD | {"prompt": TALK[:1]}, ["no message of the user"]),
        ({"id": "a", "messages": ASKED}, ["the last message is of 'user'; wanted the assistant's answer"]),
        ({"id": "a", "conversations": [1]}, ["conversations is not a list of turns"]),
        (
            {"id": "p", "prompt": ASKED, "chosen": GOOD["completion"], "rejected": GOOD["completion"]},
            ["row 'p' differs from the first"],
        ),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named(row, parts):
    with pytest.raises(InputError) as caught:
        read_rows(written([GOOD, row]))
    for part in ("train.jsonl", *parts):
        assert part in str(caught.value)


def test_places_without_training_rows(run, sim):
    Path("empty").mkdir()
    Path("blank.jsonl").write_text("\n")
    Path("rows.csv").write_text("a,b\n1,2\n")
    Path("broken.jsonl").write_text(json.dumps(GOOD) + "\n{half")
    for place, part in (
        ("empty", "holds no train.jsonl"),
        ("blank.jsonl", "holds no row"),
        ("rows.csv", "wanted JSONL or Parquet"),
        ("broken.jsonl", "line 2 is not JSON"),
        ("nowhere", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=part):
            read_rows(place)
    run("simulate", "-o", "m.parquet", "--layout", "matrix", "--instructions", 50)
    assert run("select", "m.parquet", "--budget", 5, "--clusters", 0, "-o", "matrix").code == 0
    with pytest.raises(InputError, match="its pool has no texts"):
        read_rows("matrix")


def test_held_out_rows_do_not_depend_on_the_order():
    rows = read_rows(written([GOOD | {"id": f"r{i}"} for i in range(5)])).rows
    ways = {
        tuple(
            tuple(r.id for r in part) for part in divide(TrainRows(way, Path("x"), None), share=0.4, seed=1)
        )
        for way in permutations(rows)
    }
    assert len(ways) == 1
    train, held = ways.pop()
    assert (len(train), len(held)) == (3, 2)
    assert {*train, *held} == {row.id for row in rows}
    everything = TrainRows(rows, Path("x"), None)
    assert len({tuple(r.id for r in divide(everything, share=0, seed=s)[0]) for s in range(20)}) > 5
    assert [len(divide(everything, share=share, seed=0)[1]) for share in (0.0, 0.01, 0.5)] == [0, 1, 2]
    with pytest.raises(OptionError, match=r"`eval_share` of 0\.99 holds out 5 of 5 rows"):
        divide(everything, share=0.99, seed=0)


def test_the_preset_is_the_papers_and_what_is_given_wins():
    made = with_preset({"preset": "paper", "lora": True, "epochs": None}).filled("sft")
    names = {
        "learning_rate": made.learning_rate,
        "num_train_epochs": made.epochs,
        "per_device_train_batch_size": made.batch_size,
        "gradient_accumulation_steps": made.accumulation,
        "warmup_steps": made.warmup_steps,
    }
    assert names == {name: float(PAPER_TRAINING[name]) for name in names}
    assert (made.scheduler, made.max_length) == (PAPER_TRAINING["lr_scheduler_type"], 2048)
    given = with_preset({"preset": "paper", "warmup_steps": 0.0, "learning_rate": 2e-5}).filled("sft")
    assert (given.warmup_steps, given.learning_rate, given.epochs) == (0.0, 2e-5, 3.0)
    rates = {
        (o, lora): TrainSettings(lora=lora).filled(o).learning_rate
        for o in ("sft", "dpo")
        for lora in (False, True)
    }
    assert rates == {
        ("sft", False): 1e-5,
        ("sft", True): pytest.approx(1e-4),
        ("dpo", False): 1e-6,
        ("dpo", True): pytest.approx(1e-5),
    }


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"objective": "rlhf"}, "`objective` 'rlhf' is unknown; choose one of: sft, dpo, simpo, orpo"),
        ({"preset": "best"}, "choose one of: paper"),
        ({"dtype": "float16"}, "`dtype` 'float16'"),
        ({"epochs": 0.0}, "`epochs` is 0.0; wanted more than 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` is nan"),
        ({"warmup_steps": 1.5}, "`warmup_steps` is 1.5; wanted a whole number"),
        ({"warmup_steps": -1.0}, "`warmup_steps` is -1.0; wanted 0 or more"),
        ({"eval_share": 1.0}, "`eval_share` is 1.0; wanted 0 or more and below 1"),
        ({"batch_size": 0}, "`batch_size` is 0; wanted at least 1"),
        ({"max_length": 3}, "at least 8 tokens"),
        ({"seed": -1}, "`seed` is -1"),
        ({"merge": True}, "none without `lora`"),
        ({"objective": "dpo", "gamma": 1.0}, "`gamma` is SimPO's"),
        ({"objective": "sft", "beta": 1.0}, "sft has none"),
        ({"lora": True, "lora_targets": " , "}, "`lora_targets` is empty"),
        ({"set": ["optim"]}, "NAME=VALUE"),
        ({"set": ["optim=a", "optim=b"]}, "given twice"),
    ],
)
def test_settings_that_make_no_sense(given, part):
    with pytest.raises(OptionError) as caught:
        with_preset(given)
    assert part in str(caught.value)


def checkpoint(place, step, *, state='{"global_step": 1}', chances=1):
    folder = place.folder / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for n in range(chances):
        (folder / f"rng_state_{n}.pth").touch()
    if state is not None:
        (folder / "trainer_state.json").write_text(state)


def test_only_complete_checkpoints_count_and_only_the_same_run_goes_on():
    place = workplace(Path("m").absolute())
    key = {"data": {"fingerprint": "x"}, "settings": {"seed": 0}, "processes": 1}
    with (
        occupy(place, key, overwrite=False),
        pytest.raises(OutputError, match="another process trains there"),
    ):
        occupy(place, key, overwrite=False)
    occupy(place, {**key, "processes": 2}, overwrite=False).close()  # nothing was kept: it begins anew
    occupy(place, key, overwrite=False).close()
    checkpoint(place, 4)
    checkpoint(place, 12, state='{"half')
    checkpoint(place, 20, state=None)
    checkpoint(place, 100, chances=0)
    assert place.checkpoint(processes=1).name == "checkpoint-4"
    assert place.checkpoint(processes=2) is None
    other = {**key, "settings": {"seed": 1, "device": "cpu"}}
    with pytest.raises(OptionError, match=r"after step 4 differs in settings seed \(0, now 1\); run it"):
        occupy(place, other, overwrite=False)
    with pytest.raises(OptionError, match=r"differs in processes \(1, now 2\)"):
        occupy(place, {**key, "processes": 2}, overwrite=False)
    elsewhere = {**key, "settings": {"seed": 0, "device": "cpu", "log_steps": 5}}
    for overwrite in (False, True):
        occupy(place, elsewhere, overwrite=overwrite).close()
        assert place.step(processes=1) == 4
    occupy(place, other, overwrite=True).close()
    assert place.step(processes=1) == 0
    Path("mine.training").mkdir()
    Path("mine.training/notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds no run\.json of ours"):
        occupy(workplace(Path("mine").absolute()), key, overwrite=True)
    before = {"settings": {"more": ["optim=a"]}}  # as 0.1.0 wrote it
    assert differences(before, {"settings": {"set": ("optim=a",)}}) == []


def test_losses_by_hand():
    log = [{"step": 0, "eval_loss": 4.0}, *({"step": s, "loss": float(40 - s)} for s in range(2, 42, 2))]
    log.append({"step": 40, "eval_loss": 1.5})
    assert losses(log) == {
        "first_loss": 38.0,
        "last_loss": 1.0,  # steps 37 to 40: (2 + 0) / 2
        "mean_loss": 19.0,
        "eval_loss_before": 4.0,
        "eval_loss": 1.5,
    }
    uneven = [{"step": 2, "loss": 1.0}, {"step": 3, "loss": 4.0}]
    assert losses(uneven)["mean_loss"] == 2.0
    assert set(losses([]).values()) == {None}
    assert losses([{"step": 1, "loss": None}])["last_loss"] is None


def test_the_small_drawing(monkeypatch):
    log = [{"step": s, "loss": 10.0 - s} for s in range(1, 10)] + [{"step": 9, "eval_loss": 1.0}]
    lines = drawn(log).splitlines()
    assert lines[0].split()[0] == "9"
    assert lines[7].split()[0] == "1"
    with Path("ascii.txt").open("w", encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert drawn(log).isascii()
    monkeypatch.undo()
    assert drawn(log[:1]) == ""
    assert "nan" not in drawn([{"step": s, "loss": 1.0} for s in (1, 2)])


@pytest.mark.parametrize("name", ["rank", "alpha", "dropout", "targets"])
def test_what_is_of_adapters_wants_them(run, name):
    given = ("--base", "some/model", "-o", "m", f"--lora-{name}", "1")
    run("train", "train.jsonl", *given).refuses(f"--lora-{name} is of adapters", "without --lora")


def test_without_the_extra_one_line_says_so(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    written([GOOD])
    for data, base, output, said in (  # needs no library to be seen
        ("gone.jsonl", "some/model", "m", "gone.jsonl: no such file"),
        ("train.jsonl", "./gone", "m", "no such folder"),
        ("train.jsonl", "some/model", "train.jsonl", "train.jsonl"),
    ):
        run("train", data, "--base", base, "-o", output).refuses(said)
    for more in ((), ("--dry-run",)):
        run("train", "train.jsonl", "--base", "some/model", "-o", "m", *more).refuses(
            f"is not installed; run: {install_command('train')}"
        )


def test_a_package_that_is_needed_at_the_end_is_missed_at_the_beginning(run, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    written([GOOD])
    for more in (("-o", "m"), ("--dry-run",)):
        run("train", "train.jsonl", "--base", "some/model", *more).refuses("vl_convert is not installed")


WRONG = [
    {"id": "b", "text": "x"},
    {"id": "c", "instruction": 7, "output": "So."},
    {"id": "d", "instruction": "Why?", "output": ["So."]},
    {"id": "e", "instruction": "Why?", "output": "So.", "history": "none"},
    {"id": "f", "messages": [*ASKED, {"role": "assistant", "content": [{"type": "text", "text": "So."}]}]},
]


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_malformed_rows_are_counted_and_left_out_only_when_that_is_wanted(ending):
    rows = [GOOD, *WRONG, GOOD | {"id": "z"}]
    file = f"train.{ending}"
    Path(file).write_text(json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError) as caught:
        read_rows(file)
    unit = "element" if ending == "json" else "line"
    assert str(caught.value).startswith(f"{file}: {unit} 2 (id 'b') has id, text; wanted messages")
    assert str(caught.value).endswith(
        "; 5 of 7 rows are malformed: correct them, or leave malformed rows out with `skip_invalid=True`"
    )
    found = read_rows(file, skip_invalid=True)
    assert [row.id for row in found.rows] == ["a", "z"]
    assert found.malformed == 5
    (note,) = found.notes
    assert note.startswith(
        f"5 of 7 rows are malformed and left out; the first: {file}: {unit} 2 (id 'b') has"
    )
    assert found.fingerprint() == read_rows(written([GOOD, GOOD | {"id": "z"}], "sound.jsonl")).fingerprint()


def test_lines_that_are_no_json_are_malformed_rows_like_others():
    Path("train.jsonl").write_text(f"{json.dumps(GOOD)}\n{{half\n\n[1]\n")
    with pytest.raises(InputError, match=r"line 2 is not JSON .*; 2 of 3 rows are malformed"):
        read_rows("train.jsonl")
    assert len(read_rows("train.jsonl", skip_invalid=True).rows) == 1
    Path("train.jsonl").write_text("{half\n")
    with pytest.raises(InputError, match=r"holds no row to train on; 1 of 1 rows is malformed and left out"):
        read_rows("train.jsonl", skip_invalid=True)


@pytest.mark.parametrize("trainer", [*FORMS])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_questions_with_references_are_told_as_what_they_are(trainer, ending):
    asked = [{"role": "user", "content": "2 + 2?"}]
    prompt = Prompt(index=0, id="a", messages=asked, reference="4", source="math", pass_rate=0.5)
    row = FORMS[trainer](prompt)
    assert set(HOLDS_REFERENCE) & set(row)
    file = f"train.{ending}"
    if ending == "jsonl":
        written([row, row])
    else:
        pq.write_table(pa.Table.from_pylist([row, row], schema(trainer)), file)
    with pytest.raises(InputError) as refused:
        read_rows(file, skip_invalid=True)
    said = str(refused.value)
    assert said.startswith(f"{file}: its format is rl: questions with reference answers")
    assert "`crowdselect select --format messages`" in said
    assert "malformed" not in said


def test_no_question_beside_a_reference_is_one_line():
    with pytest.raises(InputError, match="1 of 1 rows is malformed"):
        read_rows(str(written([{"id": "a", "prompt": [], "reference": "x"}])))


def test_an_answer_beside_a_reference_is_trained_on():
    chat = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    (row,) = read_rows(str(written([{"messages": chat, "ground_truth": "4"}]))).rows
    assert row.answer == "4"
