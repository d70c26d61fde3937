"""Training for real: tiny models of random weights through TRL's trainers, from the command to the folder."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.extra,
    # said within the libraries where a test looks behind `quiet`
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in:FutureWarning"),
]
pytest.importorskip("trl")
pytest.importorskip("peft")

import torch  # noqa: E402

from commands import COMMAND, manifest, tree  # noqa: E402
from crowdselect.selection.eligible import REASONS  # noqa: E402
from crowdselect.train import TrainSettings, plan, train  # noqa: E402
from crowdselect.train.planning import count_parameters, gather, memory, prepare  # noqa: E402  # noqa: E402
from crowdselect.train.student import load_student, read_student  # noqa: E402
from crowdselect.train.trainers import build_trainer  # noqa: E402
from tiny_models import CHAT_TEMPLATE, TOOLS_TEMPLATE, build_model, build_tokenizer  # noqa: E402

FAST = ("--learning-rate", 1e-2, "--device", "cpu", "--no-gradient-checkpointing")
QUICK = {"learning_rate": 1e-2, "device": "cpu", "gradient_checkpointing": False}
BEFORE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there."},
    {"role": "assistant", "content": "Hi, list three uses."},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model, 16 rows (every fourth of several turns) and 8 pairs."""
    folder = tmp_path_factory.mktemp("train")
    build_model(folder / "base")
    rows = [
        {
            "id": f"r{i}",
            "messages": [
                *(BEFORE if i % 4 == 0 else []),
                *asked(i),
                answered(f"The sky is blue{' and long' * (i % 3)}."),
            ],
        }
        for i in range(16)
    ]
    pairs = [
        {
            "id": f"p{i}",
            "prompt": asked(i),
            "chosen": [answered("The river is long.")],
            "rejected": [answered("No " * (i + 1))],
        }
        for i in range(8)
    ]
    write(folder / "rows.jsonl", rows)
    write(folder / "pairs.jsonl", pairs)
    return folder


@pytest.fixture(autouse=True)
def _here(home, tmp_path, monkeypatch):
    """Each test in a folder of its own, from which the model and the rows have short names."""
    for name in ("base", "rows.jsonl", "pairs.jsonl"):
        (tmp_path / name).symlink_to(home / name)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # tests run side by side
    from transformers.utils import logging

    logging.disable_progress_bar()


def asked(i):
    return [{"role": "user", "content": f"How many days are in year {i}?"}]


def answered(text):
    return {"role": "assistant", "content": text}


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def log(folder):
    return [json.loads(line) for line in (Path(folder) / "train_log.jsonl").read_text().splitlines()]


def weights(folder, name="model.safetensors"):
    from safetensors.torch import load_file

    return load_file(Path(folder) / name)


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def trainer_of(data, **given):
    prepared = prepare(gather(data, base="base", settings=TrainSettings(**QUICK, **given)))
    Path("work").mkdir(exist_ok=True)
    return prepared, build_trainer(prepared, Path("work"), keep=False, fresh=True)


def test_a_whole_run(run):
    ran = run("train", "rows.jsonl", "--base", "base", "-o", "m", "--eval-share", 0.25, "--epochs", 3, *FAST)
    assert ran.code == 0, ran.err
    assert "written to m\n" in ran.out
    assert ran.err == ""
    found = manifest("m")
    losses, made = found["losses"], found["plan"]
    assert losses["last_loss"] < 0.5 * losses["first_loss"]
    assert losses["eval_loss"] < 0.6 * losses["eval_loss_before"]
    assert (made["rows"], made["held_out"], made["steps"]) == (12, 4, 18)
    steps = [entry["step"] for entry in log("m") if "loss" in entry]
    assert steps == list(range(1, 19))
    assert [entry["step"] for entry in log("m") if "eval_loss" in entry][-1] == 18
    assert found["plan"]["settings"]["learning_rate"] == 1e-2
    assert (Path("m") / "loss.png").read_bytes().startswith(b"\x89PNG")
    card = (Path("m") / "README.md").read_text()
    assert 'base_model: "base"' in card
    assert str(Path.cwd()) not in card
    names = {file.name for file in Path("m").iterdir()}
    assert names >= {"model.safetensors", "tokenizer.json", "generation_config.json", "train_log.jsonl"}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))], "pickles"
    assert set(found["written"]) == {
        str(file.relative_to("m")) for file in Path("m").rglob("*") if file.is_file()
    }
    assert not Path("m.training").exists()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained("m"), AutoModelForCausalLM.from_pretrained("m")
    prompt = tokenizer.apply_chat_template(
        asked(3), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(written).startswith("The sky is blue"), "it has learnt its answer"
    assert written[-1] == tokenizer.eos_token_id, "and where it ends"


@pytest.mark.parametrize(
    ("data", "objective"), [("rows.jsonl", "sft"), ("pairs.jsonl", "dpo"), ("pairs.jsonl", "simpo")]
)
def test_the_loss_is_on_the_answer_alone_and_the_plan_counts_what_the_trainer_sees(data, objective):
    prepared, trainer = trainer_of(data, objective=objective, epochs=1.0)
    tokenizer, made = prepared.student.tokenizer, prepared.plan
    total = answers = 0
    for row, seen in zip(prepared.train, trainer.train_dataset, strict=True):
        parts = {
            "sft": [("input_ids", "labels")],
            "simpo": [("chosen_input_ids", "chosen_labels"), ("rejected_input_ids", "rejected_labels")],
        }
        if objective == "dpo":
            pairs = [
                (seen["prompt_ids"] + seen[f"{k}_ids"], [-100] * len(seen["prompt_ids"]) + seen[f"{k}_ids"])
                for k in ("chosen", "rejected")
            ]
        else:
            pairs = [(seen[ids], seen[labels]) for ids, labels in parts[objective]]
        for (ids, labels), text in zip(pairs, (row.answer, row.rejected), strict=False):
            kept = [label for label in labels if label != -100]
            asked_for = tokenizer.apply_chat_template(row.prompt, add_generation_prompt=True)["input_ids"]
            assert tokenizer.decode(kept).removesuffix("<|end|>") == f"{text}<|end|>\n".removesuffix(
                "<|end|>" if objective == "sft" else ""
            )
            assert ids[: len(asked_for)] == asked_for
            assert set(labels[: len(asked_for)]) == {-100}, "also earlier answers"
            total, answers = total + len(ids), answers + len(kept)
    assert (made.tokens, made.answer_tokens) == (total, answers)


def with_tools(objective):
    """Rows that call a tool, each with other arguments, and one that calls none."""
    rows = []
    for i, given in enumerate(({"city": "Rome"}, {"day": 3}, None)):
        call = {"function": {"name": "weather", "arguments": json.dumps(given)}}
        called = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "Rain."},
        ]
        answers = {"completion": [answered("It rains.")]}
        if objective != "sft":
            answers = {"chosen": [answered("It rains.")], "rejected": [answered("No.")]}
        tools = {} if given is None else {"tools": [{"function": {"name": "weather"}}]}
        rows.append(
            {"id": f"t{i}", "prompt": [*asked(i), *([] if given is None else called)], **answers, **tools}
        )
    write(Path("tools.jsonl"), rows)
    Path("tools.jinja").write_text(TOOLS_TEMPLATE)
    return rows


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_calls_of_tools_reach_the_trainer_as_the_template_writes_them(objective):
    rows = with_tools(objective)
    prepared, trainer = trainer_of(
        "tools.jsonl", objective=objective, epochs=1.0, chat_template="tools.jinja"
    )
    tokenizer, total, seen_calls = prepared.student.tokenizer, 0, set()
    for row, seen in zip(prepared.train, trainer.train_dataset, strict=True):
        text = tokenizer.decode(seen["input_ids"] if objective == "sft" else seen["prompt_ids"])
        own = rows[int(row.id[1:])]
        assert ('[{"function": {"name": "weather"}}]' in text) == ("tools" in own)
        seen_calls |= {call for call in ("[('city', 'Rome')]", "[('day', 3)]") if f"weather({call})" in text}
        assert "None" not in text  # what other rows have
        total += len(seen["input_ids"]) if objective == "sft" else 2 * len(seen["prompt_ids"])
        total += 0 if objective == "sft" else len(seen["chosen_ids"]) + len(seen["rejected_ids"])
    assert len(seen_calls) == 2
    assert prepared.plan.tokens == total


@pytest.mark.parametrize(
    ("objective", "place"),
    [("sft", "chat template"), ("simpo", "trainer for simpo"), ("orpo", "trainer for orpo")],
)
def test_tools_that_have_no_place_are_told_as_select_tells_them(run, objective, place):
    rows = with_tools(objective)
    asked_for = (
        "train", "tools.jsonl", "--base", "base", "--objective", objective, "-o", "m", "--dry-run", *FAST
    )  # fmt: skip
    ran = run(*asked_for)
    assert ran.code == 2
    assert f"it needs tools, which the {place} does not hold" in ran.err
    assert "2 of 3 rows are malformed" in ran.err
    ran = run(*asked_for, "--skip-invalid", "--json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)["rows"] == len(rows) - 2
    assert REASONS["no_tools"] == "it needs tools, which the format does not hold"


@pytest.mark.parametrize("objective", ["dpo", "simpo", "orpo"])
def test_preferences_are_learnt(run, objective):
    options = ("--objective", objective, "--max-steps", 2, "--warmup-steps", 0, "--eval-share", 0.25)
    ran = run("train", "pairs.jsonl", "--base", "base", "-o", "m", *options, *FAST)
    assert ran.code == 0, ran.err
    held = [entry for entry in log("m") if "eval_loss" in entry]
    assert [entry["step"] for entry in held] == [0, 1, 2]
    assert held[-1]["eval_rewards/margins"] > held[0]["eval_rewards/margins"]
    assert held[-1]["eval_loss"] < held[0]["eval_loss"]


def test_adapters_load_back_and_merging_changes_nothing(run):
    ran = run(
        "train", "rows.jsonl", "--base", "base", "-o", "m", "--lora", "--merge", "--max-steps", 3, *FAST
    )
    assert ran.code == 0, ran.err
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(5, 40).unsqueeze(0)
    base = AutoModelForCausalLM.from_pretrained("base")
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, "m/adapter")(ids).logits
    merged = AutoModelForCausalLM.from_pretrained("m")(ids).logits
    assert (before - merged).abs().max() > 0.01
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-4)
    held = weights("m/adapter", "adapter_model.safetensors")
    assert sum(one.numel() for one in held.values()) == manifest("m")["plan"]["sizes"]["trained"]
    assert {one.shape[0] for name, one in held.items() if "lora_A" in name} == {16}
    targets = json.loads(Path("m/adapter/adapter_config.json").read_text())["target_modules"]
    assert len(targets) == 14
    assert targets == sorted(targets)  # else training again would seem to make another model
    run("train", "rows.jsonl", "--base", "m/adapter", "-o", "n").refuses("these are adapters, not a model")


def test_a_killed_run_goes_on_to_the_same_model(run):
    options = [
        "--base",
        "base",
        "--epochs",
        "5",
        "--save-steps",
        "4",
        "--eval-share",
        "0.25",
        *map(str, FAST),
    ]
    whole = run("train", "rows.jsonl", *options, "-o", "whole")
    assert whole.code == 0, whole.err
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*COMMAND, "train", "rows.jsonl", *options, "-o", "killed"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        state = Path("killed.training/checkpoint-4/trainer_state.json")
        while not state.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not Path("killed").exists()
    for more in ((), ("--dry-run",)):
        run("train", "rows.jsonl", *options, "-o", "killed", "--seed", 7, *more).refuses(
            "stopped there after step", "settings seed (0, now 7)", "overwrite"
        )
    ran = run("train", "rows.jsonl", *options, "-o", "killed", "--log-steps", 2, "--dry-run")
    assert ran.code == 0, ran.err  # what is shown on the way is no other run
    ran = run("train", "rows.jsonl", *options, "-o", "killed", "--json")
    assert ran.code == 0, ran.err
    assert re.search(r"^resuming after step (4|8|12|16|20|24|28) of 30$", ran.err, re.MULTILINE)
    assert same(weights("killed"), weights("whole"))
    assert log("killed") == log("whole")
    assert manifest("killed")["losses"] == manifest("whole")["losses"]
    before = tree()
    again = run("train", "rows.jsonl", *options, "-o", "killed", "--json")
    assert json.loads(again.out)["was_there"] is True
    assert (
        "up to date" in run("train", "rows.jsonl", *options, "-o", "killed", "--resume", "--log-steps", 3).out
    )
    for more in ((), ("--dry-run",)):
        run("train", "rows.jsonl", *options, "-o", "killed", "--seed", 7, *more).refuses(
            "was trained otherwise", "settings seed (0, now 7)", "overwrite"
        )
    assert tree() == before


def test_what_was_trained_is_not_lost_when_it_cannot_be_written(run, monkeypatch):
    def full(*_arguments, **_more):
        raise OSError(28, "No space left on device")

    options = ("--base", "base", "--max-steps", 3, "--lora", *FAST)
    assert run("train", "rows.jsonl", *options, "-o", "whole").code == 0
    with monkeypatch.context() as patched:
        patched.setattr("crowdselect.train.job.write_curve", full)
        ran = run("train", "rows.jsonl", *options, "-o", "m")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        f"error: {Path.cwd() / 'm'}: cannot be written: No space left on device",
    )
    assert not Path("m").exists()
    ran = run("train", "rows.jsonl", *options, "-o", "m", "--resume")
    assert ran.code == 0, ran.err
    assert log("m") == log("whole")
    assert same(*(weights(name, "adapter_model.safetensors") for name in ("m", "whole")))


def test_same_seed_same_weights_whatever_the_order_of_the_rows(home):
    lines = (home / "rows.jsonl").read_text().splitlines(keepends=True)
    Path("turned.jsonl").write_text("".join(reversed(lines)))
    for name, data, seed in (("a", "rows.jsonl", 3), ("b", "turned.jsonl", 3), ("c", "rows.jsonl", 4)):
        train(data, name, base="base", settings=TrainSettings(max_steps=2, lora=True, seed=seed, **QUICK))
    a, b, c = (weights(name, "adapter_model.safetensors") for name in "abc")
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"epochs": 1.0}, 8),
        (
            {"epochs": 1.5, "batch_size": 3, "accumulation": 2, "eval_share": 0.1},
            5,
        ),  # 14 rows: 5 batches, 3 steps
        ({"max_steps": 4, "accumulation": 5}, 4),
    ],
)
def test_the_plan_has_the_trainers_own_steps(given, steps):
    settings = TrainSettings(**QUICK, **given)
    made = plan("rows.jsonl", base="base", settings=settings)
    assert made.steps == steps
    found = train("rows.jsonl", "m", base="base", settings=settings)
    assert found.log[-1]["step"] == steps
    assert found.manifest["plan"]["steps"] == steps


def test_a_dry_run_writes_nothing(run):
    before = tree()
    options = ("--base", "base", "-o", "m", "--preset", "paper", "--dry-run")
    ran = run("train", "rows.jsonl", *options)
    assert ran.code == 0
    assert tree() == before
    assert (
        "the warm-up of 150 steps is 6.25 times all 24: the learning rate never reaches its height" in ran.err
    )
    assert "--warmup-steps 2" in ran.err
    facts = json.loads(run("train", "rows.jsonl", *options, "--json").out)
    assert (facts["steps"], facts["warmup"], facts["settings"]["learning_rate"]) == (24, 150, 1e-5)
    assert "warm-up" not in run("train", "rows.jsonl", "--base", "base", "-o", "m", "--dry-run").err


def test_malformed_rows_are_left_out_only_when_that_is_wanted(run):
    Path("odd.jsonl").write_text(Path("rows.jsonl").read_text() + '{"id": "odd", "text": "x"}\n{half\n')
    given = ("train", "odd.jsonl", "--base", "base", "-o", "m", "--dry-run")
    run(*given).refuses("rows are malformed", "leave malformed rows out with --skip-invalid")
    ran = run(*given, "--skip-invalid")
    assert ran.code == 0, ran.err
    assert "rows are malformed and left out; the first: odd.jsonl: line " in ran.err
    sound = json.loads(run("train", "rows.jsonl", "--base", "base", "-o", "m", "--dry-run", "--json").out)
    facts = json.loads(run(*given, "--skip-invalid", "--json").out)
    assert (facts["rows"], facts["steps"]) == (sound["rows"], sound["steps"])


def test_rows_over_the_limit_are_counted_and_said():
    made = plan("rows.jsonl", base="base", settings=TrainSettings(max_length=31, device="cpu"))
    prepared, trainer = trainer_of("rows.jsonl", max_length=31, epochs=1.0)
    seen = [len(row["input_ids"]) for row in trainer.train_dataset]
    whole = [len(row["input_ids"]) for row in trainer_of("rows.jsonl")[1].train_dataset]
    assert made.cut == sum(length > 31 for length in whole) > made.dropped > 0
    assert max(seen) == 31
    assert made.longest == max(whole)
    assert (made.rows, len(seen)) == (16 - made.dropped, 16 - made.dropped)
    assert prepared.plan.tokens == sum(seen)
    assert any(f"{made.cut} of 16 rows are longer than 31 tokens" in line for line in made.warnings)
    assert any(f"{made.dropped} of 16 rows have nothing of their answer" in line for line in made.warnings)


def test_a_template_is_required(run):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained("base").save_pretrained("bare")
    tokenizer = build_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained("bare")
    run("train", "rows.jsonl", "--base", "bare", "-o", "m").refuses(
        "bare: its tokenizer has no chat template", "give --chat-template"
    )
    Path("t.jinja").write_text(CHAT_TEMPLATE)
    Path("foreign.jinja").write_text(CHAT_TEMPLATE.replace("<|end|>", "<|im_end|>"))
    Path("mute.jinja").write_text("{{ messages[0]['role'] }}")
    Path("broken.jinja").write_text("{% if %}")
    warned = {
        name: run(
            "train", "rows.jsonl", "--base", "bare", "-o", "m", "--chat-template", name, "--dry-run"
        ).err
        for name in ("t.jinja", "foreign.jinja")
    }
    assert "may not learn to stop" not in warned["t.jinja"]
    assert "may not learn to stop" in warned["foreign.jinja"]
    for name, part in (
        ("mute.jinja", "does not write the question and the answer"),
        ("broken.jinja", "chat template"),
        ("no.jinja", "cannot be read"),
    ):
        run("train", "rows.jsonl", "--base", "bare", "-o", "m", "--chat-template", name).refuses(part)


def test_the_students_end_becomes_the_models_end():
    """A base model ends texts, not turns: what is generated would go on behind the answer."""
    Path("t.jinja").write_text(CHAT_TEMPLATE.replace("<|end|>", "<|user|>"))
    settings = TrainSettings(chat_template="t.jinja", device="cpu")
    student = read_student("base", settings)
    assert (student.stop, student.tokenizer.eos_token) == ("<|user|>", "<|user|>")
    model = load_student(student, settings)
    ends = build_tokenizer().convert_tokens_to_ids(["<|user|>", "<|end|>"])
    assert model.generation_config.eos_token_id == ends


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--base", "nowhere/at/all"), ["no such folder"]),
        (("--base", "rows.jsonl"), ["this is a file"]),
        (("--base", "."), ["there is no config.json"]),
        (
            ("--base", "base", "--objective", "dpo"),
            ["needs preference pairs", "select again with `crowdselect select ... --pairs best-worst`"],
        ),
        (("--base", "base", "--lora", "--lora-targets", "nope"), ["--lora-targets is 'nope'"]),
        (("--base", "base", "--set", "learning_rate=1"), ["use --learning-rate"]),
        (("--base", "base", "--set", "push_to_hub=true"), ["not sent anywhere"]),
        (("--base", "base", "--set", "optimm=adafactor"), ["SFTConfig has no such setting"]),
        (("--base", "base", "--set", "optim=best"), ["TRL refuses the settings"]),
        (("--base", "base", "--max-length", "8"), ["leaves no answer of any row"]),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(run, arguments, parts):
    ran = run("train", "rows.jsonl", "-o", "m", "--device", "cpu", *arguments)
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("error: ")
    for part in parts:
        assert part in ran.err.splitlines()[-1]
    assert not Path("m").exists()


def test_a_base_that_is_nowhere(run, monkeypatch):
    def unreachable(*_arguments, **_more):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(
        "crowdselect.modelfolders.hub_trouble", lambda **_: None
    )  # as where there is a network
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", unreachable)
    run("train", "rows.jsonl", "--base", "m/nosuch", "-o", "m").refuses(
        "m/nosuch: there is no such folder here, and the Hub did not give its revision main: We couldn't connect"
    )


def test_settings_from_a_file_and_those_of_the_trainer(run):
    Path("t.toml").write_text('base = "base"\nmax-steps = 1\nlora = true\nset = ["optim=sgd"]\nseed = 5\n')
    ran = run(
        "train",
        "pairs.jsonl",
        "--config",
        "t.toml",
        "--seed",
        6,
        "--objective",
        "sft",
        "-o",
        "m",
        "--keep-checkpoints",
        *FAST,
    )
    assert ran.code == 0, ran.err
    settings = manifest("m")["plan"]["settings"]
    assert (settings["lora"], settings["seed"], settings["max_steps"], settings["set"]) == (
        True,
        6,
        1,
        ["optim=sgd"],
    )
    assert Path("m.training/checkpoint-1").is_dir()


@pytest.mark.parametrize(("dtype", "half"), [("float32", False), ("bfloat16", True)])
def test_memory_is_what_autograd_keeps(dtype, half):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 300,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "hidden_size": 128,
        "intermediate_size": 384,
    }
    tokens = 64

    def kept(layers):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **shape))
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        found = {}

        def keep(tensor):
            if tensor.untyped_storage().data_ptr() not in own:
                found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
            torch.autocast("cpu", torch.bfloat16, enabled=half),
        ):
            model.model(torch.arange(tokens).unsqueeze(0), use_cache=False)
        casts = 2 * sum(p.numel() for name, p in model.named_parameters() if half and "proj" in name)
        return sum(one.untyped_storage().nbytes() for one in found.values()), casts

    (three, casts_three), (one, casts_one) = kept(3), kept(1)
    settings = TrainSettings(objective="sft", gradient_checkpointing=False, device="cpu", dtype=dtype)
    student = read_student("base", settings)
    counted = []
    for layers in (3, 1):
        student.config.update({**shape, "num_hidden_layers": layers})
        sizes = count_parameters(student, settings)
        counted.append(memory(student, settings, sizes, longest=tokens, processes=1).activations)
    assert counted[0] - counted[1] == pytest.approx(three - one - (casts_three - casts_one), rel=0.15)


def test_parameters_are_counted_exactly():
    settings = TrainSettings(
        lora=True, objective="sft", device="cpu", lora_targets="q_proj,down_proj", lora_rank=4
    )
    student = read_student("base", settings)
    sizes = count_parameters(student, settings)
    model = load_student(student, settings)
    of_base = sum(p.numel() for p in model.parameters())
    adapters = 2 * 4 * ((32 + 32) + (64 + 32))  # layers x rank x (in + out)
    assert (sizes.weights, sizes.trained) == (of_base + adapters, adapters)
    need = memory(student, settings, sizes, longest=100, processes=1)
    assert (need.weights, need.gradients, need.optimizer) == (
        4 * (of_base + adapters),
        4 * adapters,
        8 * adapters,
    )
