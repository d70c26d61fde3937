"""`evaluate loss` and `evaluate prefers`: a tiny model's losses against those by hand, and their results compared."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import open_pool
from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.held_out import BANDS, rows_of_file, rows_of_pool
from crowdselect.evaluate.measured import MeasureOptions, local_model, measure
from crowdselect.evaluate.outcome import load_groups, load_result
from crowdselect.simulate.pool import simulate
from tiny_models import TOOLS_TEMPLATE, build_model

MESSAGES = [
    {
        "id": "b",
        "messages": [{"role": "user", "content": "Say two"}, {"role": "assistant", "content": "Two days"}],
    },
    {
        "id": "a",
        "messages": [{"role": "user", "content": "Say one"}, {"role": "assistant", "content": "One"}],
    },
    {
        "id": "a",
        "messages": [{"role": "user", "content": "Say one"}, {"role": "assistant", "content": "An uno"}],
    },
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in MESSAGES))
    return file


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Three tiny models; the second has another seed, the third knows no chat template."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("oak", "ash", "plain")):
        build_model(folder / name, seed=seed)
    (folder / "plain" / "chat_template.jinja").unlink()
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("pool") / "pool.parquet", instructions=30, answer_chars=80).path


def by_hand(folder, messages):
    """Mean loss and number of the tokens after the prompt, by the model's own loss."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    before = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    assert ids[: len(before)] == before
    labels = [-100] * len(before) + ids[len(before) :]
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    return float(loss), len(ids) - len(before)


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "rows.jsonl").read_text().splitlines()]


# Rows


def test_rows_of_a_file_are_in_the_order_of_their_ids(rows):
    found = rows_of_file(str(rows)).rows
    assert [(row.id, row.answer) for row in found] == [("a", "An uno"), ("a (2)", "One"), ("b", "Two days")]
    rows.write_text("".join(json.dumps(row) + "\n" for row in reversed(MESSAGES)))
    assert rows_of_file(str(rows)).rows == found


def test_rows_of_a_pool_are_the_best_answers_and_pairs(pool):
    with open_pool(pool) as opened:
        scores, usable = opened.scores(), opened.targets().usable
        ids, texts = list(opened.ids), opened.instructions()
        scores = np.where(usable, scores, np.nan)
        best = rows_of_pool(opened)
        pairs = rows_of_pool(opened, pairs=True)
        far = float(np.nanmedian(np.nanmax(scores, axis=1) - np.nanmin(scores, axis=1)))
        wide = rows_of_pool(opened, pairs=True, min_margin=far)
        said = {
            (ids[row], text): scores[row, model]
            for batch in opened.stream_responses()
            for row, model, text in zip(batch.rows, batch.models, batch.texts, strict=True)
        }
    can = [i for i, text in enumerate(texts) if text is not None and not np.isnan(scores[i]).all()]
    assert [row.id for row in best.rows] == [ids[i] for i in can]
    for row in best.rows:
        assert said[row.id, row.answer] == np.nanmax(scores[ids.index(row.id)])
        assert row.other is None
        assert row.prompt[-1] == {"role": "user", "content": texts[ids.index(row.id)]}
    for row in pairs.rows:
        assert said[row.id, row.answer] > said[row.id, row.other]
        assert said[row.id, row.other] == np.nanmin(scores[ids.index(row.id)])
    margins = {row.id: said[row.id, row.answer] - said[row.id, row.other] for row in pairs.rows}
    assert [row.id for row in wide.rows] == [id_ for id_, margin in margins.items() if margin >= far]
    assert any("with rewards nearer than `min_margin`" in note for note in wide.notes)
    bands = {row.id: row.category for row in best.rows}
    hardness = {row.id: -np.nanmean(scores[ids.index(row.id)]) for row in best.rows}
    assert set(bands.values()) == set(BANDS)
    for lower, higher in itertools.pairwise(BANDS):
        assert max(hardness[i] for i in bands if bands[i] == lower) <= min(
            hardness[i] for i in bands if bands[i] == higher
        )


def test_what_a_selection_chose_is_left_out_and_a_sample_is_seeded(pool, run):
    chosen = run("select", pool, "--budget", 10, "--clusters", 0, "-o", "chosen")
    assert chosen.code == 0, chosen
    taken = {json.loads(line)["id"] for line in Path("chosen/train.jsonl").read_text().splitlines()}
    with open_pool(pool) as opened:
        rest = [row.id for row in rows_of_pool(opened, chosen=["chosen"]).rows]
        every = [row.id for row in rows_of_pool(opened).rows]
        assert rest == [id_ for id_ in every if id_ not in taken]
        some = [row.id for row in rows_of_pool(opened, chosen=["chosen"], sample=5).rows]
        assert len(some) == 5
        assert set(some) < set(rest)
        assert some != [row.id for row in rows_of_pool(opened, chosen=["chosen"], sample=5, seed=1).rows]
        assert "only" in rows_of_pool(opened, sample=1000).notes[-1]
        # A band is of the whole pool, whatever is taken of it
        bands = {row.id: row.category for row in rows_of_pool(opened).rows}
        assert all(row.category == bands[row.id] for row in rows_of_pool(opened, sample=7).rows)
    other = simulate(Path("other.parquet"), instructions=20, answer_chars=80, seed=9).path
    table = pq.read_table(other)
    pq.write_table(table.set_column(0, "id", pa.array([f"x{i}" for i in table["id"].to_pylist()])), other)
    with (
        open_pool(other) as opened,
        pytest.raises(InputError, match="none of the instructions that it chose"),
    ):
        rows_of_pool(opened, chosen=["chosen"])


def test_options_that_make_no_sense(rows, pool):
    for given, why in (
        ({}, "say what to measure on"),
        ({"on": str(rows), "pool": "p"}, "say what to measure on"),
        ({"on": str(rows), "sample": 3}, "`sample` is of a pool"),
        ({"on": str(rows), "chosen": ("x",)}, "`chosen` is of a pool"),
        ({"on": str(rows), "seed": -1}, "`seed` is -1"),
    ):
        with pytest.raises(OptionError, match=why):
            MeasureOptions(benchmark="loss", student="m", **given)
    with open_pool(pool) as opened:
        with pytest.raises(OptionError, match="`sample` is 0"):
            rows_of_pool(opened, sample=0)
        with pytest.raises(OptionError, match="`min_margin` is nan"):
            rows_of_pool(opened, pairs=True, min_margin=float("nan"))
        with pytest.raises(
            InputError, match=r"no instruction to measure on is left: left out: .* nearer than"
        ):
            rows_of_pool(opened, pairs=True, min_margin=1e6)


def test_an_endpoint_gives_no_likelihoods(tmp_path, run, rows):
    (tmp_path / "crowd.toml").write_text(
        '[[model]]\nname = "far"\nbase_url = "http://127.0.0.1:9/v1"\n[[model]]\nname = "near"\nlocal = "org/near"\n'
    )
    assert local_model("crowd.toml#near") == "org/near"
    run("evaluate", "loss", "crowd.toml#far", "--on", rows, "-o", "out").refuses(
        "MODEL is 'crowd.toml#far': an endpoint, which says nothing of how likely an answer is"
    )
    run("evaluate", "loss", "crowd.toml#none", "--on", rows, "-o", "out").refuses("found far, near")
    (tmp_path / "empty").mkdir()
    run("evaluate", "loss", "empty", "--on", rows, "-o", "out").refuses("empty")
    assert not Path("out").exists()


def test_a_plan_loads_no_model(run, rows, pool):
    made = run("evaluate", "prefers", "org/model", "--pool", pool, "--sample", 6, "--dry-run", "--json")
    assert made.code == 0, made
    found = json.loads(made.out)
    assert (found["rows"], found["pairs"], sum(found["bands"].values())) == (6, 6, 6)
    assert "3 answers; nothing was computed" in run("evaluate", "loss", "m", "--on", rows, "--dry-run").out


# Numbers


@pytest.mark.extra
def test_losses_are_those_of_the_model_on_the_tokens_of_the_answer(run, rows, models):
    made = run("evaluate", "loss", models / "oak", "--on", rows, "-o", "out")
    assert made.code == 0, made
    truth = [by_hand(models / "oak", MESSAGES[at]["messages"]) for at in (2, 1, 0)]
    found = lines("out")
    assert [line["id"] for line in found] == ["a", "a (2)", "b"]
    assert [line["tokens"] for line in found] == [tokens for _, tokens in truth]
    assert [line["loss"] for line in found] == pytest.approx([loss for loss, _ in truth], abs=1e-4)
    result = json.loads(Path("out/result.json").read_text())
    tokens = sum(count for _, count in truth)
    assert result["score"] == pytest.approx(sum(loss * count for loss, count in truth) / tokens, abs=1e-4)
    assert result["questions_scored"] == 3
    before = Path("out/result.json").read_bytes()
    assert "up to date: out" in run("evaluate", "loss", models / "oak", "--on", rows, "-o", "out").out
    run("evaluate", "loss", models / "ash", "--on", rows, "-o", "out").refuses(
        "MODEL had other content", "--overwrite"
    )
    assert Path("out/result.json").read_bytes() == before
    made = run("evaluate", "loss", models / "oak", "--on", rows, "-o", "small", "--batch-tokens", 8)
    assert [line["loss"] for line in lines("small")] == pytest.approx(
        [line["loss"] for line in found], abs=1e-4
    )


@pytest.mark.extra
def test_the_tokens_are_those_that_training_learns(rows, models):
    pytest.importorskip("trl")
    from crowdselect.methods.likelihood import LanguageModel
    from crowdselect.train.rows import lengths, read_rows
    from crowdselect.train.settings import TrainSettings
    from crowdselect.train.student import read_student

    trained = read_rows(str(rows)).rows
    counted = lengths(
        trained, read_student(str(models / "oak"), TrainSettings()), limit=2048, objective="sft"
    )
    model = LanguageModel(str(models / "oak"))
    found = model.likelihoods([(list(row.prompt), row.answer) for row in trained])
    assert [one.tokens for one in found] == [one.answer for one in counted]


@pytest.mark.extra
def test_calls_of_tools_count_where_the_template_writes_them(run, models, tmp_path):
    tools = [{"function": {"name": "weather"}}]
    call = {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Rain."},
        {"role": "assistant", "content": "It rains."},
    ]
    rows = [{"id": "a", "messages": messages, "tools": tools}, {**MESSAGES[0], "id": "b"}]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("evaluate", "loss", models / "oak", "--on", "rows.jsonl", "-o", "out").code == 3
    none, some = lines("out")
    assert none["reason"] == "it needs tools, which the chat template does not hold"
    assert some["loss"] > 0

    from crowdselect.methods.likelihood import LanguageModel

    copy = Path(shutil.copytree(models / "oak", tmp_path / "tooled"))
    (copy / "chat_template.jinja").write_text(TOOLS_TEMPLATE)
    model = LanguageModel(str(copy))
    asked = [(messages[:-1], "It rains.")] * 2
    with_tools, without = model.likelihoods(asked, tools=[json.dumps(tools), None])
    assert with_tools.loss != without.loss
    assert with_tools.tokens == without.tokens


@pytest.mark.extra
def test_preferences_count_the_better_answers(run, pool, models):
    made = run("evaluate", "prefers", models / "oak", "--pool", pool, "-o", "out", "--sample", 12)
    assert made.code == 0, made
    with open_pool(pool) as opened:
        rows = rows_of_pool(opened, pairs=True, sample=12).rows
    wins = []
    for row, line in zip(rows, lines("out"), strict=True):
        better, worse = (
            by_hand(models / "oak", [*row.prompt, {"role": "assistant", "content": text}])[0]
            for text in (row.answer, row.other)
        )
        assert (line["loss"], line["worse_loss"]) == pytest.approx((better, worse), abs=1e-4)
        wins.append(better < worse)
    result = json.loads(Path("out/result.json").read_text())
    assert result["score"] == pytest.approx(100 * np.mean(wins))
    for band, part in result["categories"].items():
        own = [win for win, row in zip(wins, rows, strict=True) if row.category == band]
        assert part["score"] == pytest.approx(100 * np.mean(own))
    assert "easy" in made.out


@pytest.mark.extra
def test_results_are_compared_row_by_row(run, rows, models):
    for name in ("oak", "ash"):
        assert run("evaluate", "loss", models / name, "--on", rows, "-o", f"loss-{name}").code == 0
    first, second = (load_result(f"loss-{name}") for name in ("oak", "ash"))
    found = json.loads(run("evaluate", "compare", "loss-oak", "loss-ash", "--json").out)
    (difference,) = found["differences"]
    mean = [float(one.cells.sums.sum() / one.cells.weights.sum()) for one in (first, second)]
    assert difference["difference"] == pytest.approx(mean[0] - mean[1])
    assert (difference["questions"], found["judge"], found["benchmark"]) == (3, None, "loss")
    assert not any("compare with care" in note for note in found["notes"])
    shown = run("evaluate", "compare", "loss-oak", "loss-ash").out
    assert "Loss" in shown
    assert "judged by" not in shown
    assert len(load_groups(["one=loss-oak", "loss-ash"])) == 2
    rows.write_text("".join(json.dumps(row) + "\n" for row in MESSAGES[:2]))
    run("evaluate", "loss", models / "ash", "--on", rows, "-o", "fewer")
    notes = json.loads(run("evaluate", "compare", "loss-oak", "fewer", "--json").out)["notes"]
    assert any("not of the same rows: compare with care" in note for note in notes)
    pytest.importorskip("altair")
    assert run("evaluate", "compare", "loss-oak", "loss-ash", "-o", "page.html").code == 0
    assert "judged by" not in Path("page.html").read_text()


@pytest.mark.extra
def test_what_does_not_fit_is_cut_or_missing(run, models):
    long = "How many days are in a leap year? " * 20
    rows = [
        ("cut", "Hi", long),
        ("fits", "Hi", "Yes"),
        ("none", long * 3, "Yes"),
    ]
    Path("rows.jsonl").write_text(
        "".join(
            json.dumps({"id": id_, "prompt": [{"role": "user", "content": asked}],
                        "completion": [{"role": "assistant", "content": said}]}) + "\n"
            for id_, asked, said in rows
        )
    )  # fmt: skip
    made = run("evaluate", "loss", models / "oak", "--on", "rows.jsonl", "-o", "out", "--max-length", 40)
    assert made.code == 3, made
    found = {line["id"]: line for line in lines("out")}
    assert (found["cut"]["is_cut"], found["fits"]["is_cut"]) == (True, False)
    assert found["none"] == {
        "id": "none", "category": "", "loss": None, "tokens": 0, "is_cut": False,
        "reason": "the messages alone are longer than `max_length`",
    }  # fmt: skip
    assert json.loads(Path("out/result.json").read_text())["questions_scored"] == 2
    assert "1 of 3 instructions has no number" in made.err


@pytest.mark.extra
def test_a_model_without_a_template_reads_texts(run, rows, models):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = run("evaluate", "loss", models / "plain", "--on", rows, "-o", "out")
    assert made.code == 0, made
    tokenizer = AutoTokenizer.from_pretrained(models / "plain")
    model = AutoModelForCausalLM.from_pretrained(models / "plain", dtype=torch.float32).eval()
    before, after = (tokenizer(text)["input_ids"] for text in ("Say two\n\n", "Two days"))
    ids = [*before, *after, tokenizer.eos_token_id]
    labels = [-100] * len(before) + ids[len(before) :]
    with torch.inference_mode():
        loss = float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss)
    assert lines("out")[2]["loss"] == pytest.approx(loss, abs=1e-4)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")
def test_adapters_are_read_with_their_base(run, rows, models):
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models / "oak", dtype=torch.float32)
    adapted = peft.get_peft_model(
        base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained("adapter")
    for file in models.joinpath("oak").glob("*token*"):
        shutil.copy(file, "adapter")
    shutil.copy(models / "oak" / "chat_template.jinja", "adapter")
    assert run("evaluate", "loss", "adapter", "--on", rows, "-o", "adapted").code == 0
    assert run("evaluate", "loss", models / "oak", "--on", rows, "-o", "base").code == 0
    pairs = zip(lines("adapted"), lines("base"), strict=True)
    assert all(abs(one["loss"] - other["loss"]) > 1e-4 for one, other in pairs)


@pytest.mark.extra
def test_the_library_measures_too(rows, models):
    found = measure(
        MeasureOptions(
            benchmark="loss", student=str(models / "oak"), on=str(rows), output="out", name="student"
        )
    )
    assert (found.result["model"], found.is_complete, found.was_there) == ("student", True, False)
