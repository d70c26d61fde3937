"""The files that start each trainer, and the trainers' own code on what is exported for them.

The tests marked `trainers` need the trainer itself, in an environment of its own: `make trainers`.
"""

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import tree
from crowdselect.selection.formats import record, record_schema, trainer_files
from crowdselect.selection.records import RL
from crowdselect.selection.trainers import TRAINERS
from crowdselect.train.rows import read_rows
from tiny_models import build_tokenizer

RATES = {"messages": 1e-5, "dpo": 1e-6}
DIGEST = "1f40fc92"
SHORT, SPACED = "4", "  So it is.\n"
"""Answers that a trainer may lose: one that occurs in other texts, and one whose spaces chat templates trim."""
BRIEF = {"role": "system", "content": "Be brief."}
ASKED = [
    [{"role": "user", "content": "What is 2 + 2? Answer 4 or 5."}],
    [
        BRIEF,
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Is it 4?"},
    ],
]
ANSWERS = [(SHORT, "5"), (SPACED, "No.")]


def written(folder, trainer, name, file_type="jsonl"):
    """A folder as `select --for TRAINER` writes it, less what is the same for all; its files' texts."""
    folder.mkdir(parents=True)
    rows = [
        record(name, instruction_id=f"r{i}", prompt=prompt, answer=answer, rejected=rejected, trainer=trainer)
        for i, (prompt, (answer, rejected)) in enumerate(zip(ASKED, ANSWERS, strict=True))
    ]
    train_file = f"train.{file_type}"
    if file_type == "parquet":
        schema = record_schema(name, trainer=trainer)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / train_file)
    else:
        (folder / train_file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = trainer_files(trainer, name=name, train_file=train_file, digest=DIGEST, rows=4000)
    for file, text in files.items():
        (folder / file).write_text(text)
    return dict(files)


def conversations():
    """The messages of the two rows with the chosen answer and with the rejected one."""
    return [
        tuple([*prompt, {"role": "assistant", "content": text}] for text in both)
        for prompt, both in zip(ASKED, ANSWERS, strict=True)
    ]


def of(trainer, module):
    """A module of an installed trainer; where the trainer is not installed, the test is skipped."""
    try:
        importlib.metadata.version(trainer)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{trainer} is not installed: make trainers")
    return importlib.import_module(module)


def typed(folder, script, program, *more):
    """Run a script with a stand-in for the trainer that writes down what it is given."""
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    (tools / program).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tools / program).chmod(0o755)
    environment = {"PATH": f"{tools}:{shutil.os.environ['PATH']}", "MODEL": "my/model"}
    shell = ["sh", folder / script, *more]
    return subprocess.run(
        shell, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a b; $x"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_trainer_says_how_to_start_it(trainer, tmp_path):
    """The first lines of one of its files have the command, and no file names a folder of this machine."""
    for name in TRAINERS[trainer].forms:
        files = trainer_files(trainer, name=name, train_file="train.jsonl", digest=DIGEST, rows=9)
        assert all(str(Path.home()) not in text for text in files.values())
        if name != RL:
            heads = [line for text in files.values() for line in text.splitlines()[:2] if line[0] == "#"]
            assert any(re.search(r"Fine-tune with .*: .*\w+\.(sh|yaml|py)$", line) for line in heads), heads


@pytest.mark.parametrize("trainer", TRAINERS)
def test_select_writes_what_the_trainer_reads(trainer, run, sim, tmp_path):
    """From the command to the files, and `train` reads each such folder back."""
    for name in set(TRAINERS[trainer].forms) - {RL}:
        out = tmp_path / name
        pairs = ["--pairs", "best-worst"] if name == "dpo" else []
        options = ["--budget", 6, "--clusters", 0, "--format", name, "--for", trainer, *pairs]
        ran = run("select", sim, *options, "-o", out)
        assert ran.code == 0, ran.err
        assert f"  {TRAINERS[trainer].command(str(out), pairs=name == 'dpo')}\n" in ran.out
        files = trainer_files(trainer, name=name, train_file="train.jsonl", digest=DIGEST, rows=6)
        (train_file,) = {file.name for file in out.iterdir() if file.name.startswith("train.")}
        assert train_file == ("train.parquet" if trainer == "verl" else "train.jsonl")
        own = {"README.md", "manifest.json", "selection.parquet", train_file}
        assert {file.name for file in out.iterdir()} == own | set(files)
        rows = read_rows(str(out))
        assert len(rows.rows) == 6
        assert rows.has_pairs == (name == "dpo")


LEFT = re.compile(r"\boutput_dir|default_local_dir|dataset_prepared_path|REFERENCE_LOGPROBS_CACHE_PATH")
"""The settings that say where a run leaves something."""


def left_by(folder):
    """The lines of a folder's files that say where a run leaves something."""
    files = [path for path in folder.iterdir() if path.suffix in {".sh", ".py", ".yaml"}]
    return [line for path in files for line in path.read_text().splitlines() if LEFT.search(line)]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_runs_on_other_rows_leave_nothing_under_the_same_name(trainer, run, sim, tmp_path):
    """Trainers resume from what lies there, or train on the rows that they prepared, without a look at the training file."""
    for name in set(TRAINERS[trainer].forms) - {RL}:
        pairs = ["--pairs", "best-worst"] if name == "dpo" else []
        options = ["--budget", 6, "--clusters", 0, *pairs]
        told = {}
        for choice, more in (("ours", []), ("random", ["--method", "random"])):
            picked, out = tmp_path / f"{name}-{choice}", tmp_path / f"{name}-{choice}-out"
            assert run("select", sim, *options, *more, "-o", picked).code == 0
            export = ("export", picked, "--format", name, "--for", trainer)
            assert run(*export, "-o", out).code == 0
            (train_file,) = out.glob("train.*")
            digest = hashlib.sha256(train_file.read_bytes()).hexdigest()[:8]
            told[choice] = left_by(out)
            assert told[choice]
            assert all(digest in line for line in told[choice])
            again = out.with_name(f"{out.name}-again")
            assert run(*export, "-o", again).code == 0
            assert {f.name: f.read_bytes() for f in again.iterdir()} == {
                f.name: f.read_bytes() for f in out.iterdir()
            }
        assert not set(told["ours"]) & set(told["random"])


def test_two_trainers_of_one_selection_leave_nothing_under_the_same_name(run, sim, tmp_path):
    """Those that are started in the selection's folder name their model's beside it without its name."""
    assert run("select", sim, "--budget", 6, "--clusters", 0, "-o", tmp_path / "chosen").code == 0
    told = set()
    for trainer in ("axolotl", "llamafactory", "ms-swift"):
        out = tmp_path / trainer
        assert run("export", tmp_path / "chosen", "--for", trainer, "-o", out).code == 0
        found = {line.split(": ")[1] for line in left_by(out)}
        assert all(path.startswith(f"../{trainer}-model-") for path in found)
        told |= {path.removesuffix("/prepared") for path in found}
    assert len(told) == 3


WITHOUT_ANSWERS = [
    {"id": f"q{i}", "instruction": f"What is {i} + {i}?", "model": model, "reward": i % 7 + place}
    for i in range(8)
    for place, model in enumerate(("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"))
]
"""A long pool with rewards alone."""


@pytest.fixture
def unanswered(tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in WITHOUT_ANSWERS))
    return pool


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        *((("--for", name), f"for {each.title}; ") for name, each in TRAINERS.items()),
        (("--format", "messages"), "for --format messages; "),
        (("--format", "alpaca"), "for --format alpaca; "),
        (("--format", "alpaca", "--for", "llamafactory"), "or leave out --for and --format to write"),
    ],
)
def test_without_answers_nothing_is_written_for_a_trainer_or_in_a_format(
    run, unanswered, tmp_path, asked, line
):
    choosing = ("select", unanswered, "--budget", 4, "--clusters", 0, "--method", "random")
    assert run(*choosing, "-o", tmp_path / "chosen").code == 0
    before = tree(tmp_path)
    none = "pool.jsonl: the pool holds no answers (wanted a column response), so there is no training file "
    for command in (choosing, (*choosing, "--dry-run"), ("export", tmp_path / "chosen")):
        out = () if "--dry-run" in command else ("-o", tmp_path / "out")
        run(*command, *asked, *out).refuses(none, line, "select from a pool with these texts")
        assert tree(tmp_path) == before


def test_pairs_without_answers_are_not_written_in_a_format(run, unanswered, tmp_path):
    choosing = (
        "select",
        unanswered,
        "--budget",
        4,
        "--clusters",
        0,
        "--pairs",
        "best-worst",
        "--format",
        "dpo",
    )
    run(*choosing, "-o", tmp_path / "out").refuses("the pool holds no answers", "for --format dpo; ")
    assert not (tmp_path / "out").exists()


def test_without_answers_a_folder_of_scores_is_written_still(run, unanswered, tmp_path):
    choosing = ("select", unanswered, "--budget", 4, "--clusters", 0, "--method", "random")
    assert run(*choosing, "-o", tmp_path / "chosen").code == 0
    ran = run("export", tmp_path / "chosen", "-o", tmp_path / "again")
    assert ran.code == 0, ran.err
    assert {file.name for file in (tmp_path / "again").iterdir()} == {
        "README.md",
        "manifest.json",
        "selection.parquet",
    }


def test_for_reinforcement_learning_verl_and_open_instruct_need_the_data_alone():
    for trainer in ("verl", "open-instruct"):
        assert trainer_files(trainer, name=RL, train_file="train.parquet", digest=DIGEST, rows=9) == {}


# axolotl


@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_axolotl_yaml(name, folder):
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(written(folder, "axolotl", name)["axolotl.yaml"])
    (data,) = found["datasets"]
    assert data["path"] == "train.jsonl"
    assert found["learning_rate"] == RATES[name]
    assert (found["num_epochs"], found["micro_batch_size"], found["warmup_steps"]) == (3, 1, 150)
    assert found["output_dir"].startswith("../")  # not into the folder that --overwrite replaces
    if name == "dpo":
        assert (found["rl"], found["skip_prepare_dataset"]) == ("dpo", True)
        assert "type" not in data
    else:
        assert (data["type"], found["excess_length_strategy"]) == ("chat_template", "truncate")
        assert found["dataset_prepared_path"].startswith("../")


@pytest.mark.trainers
@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_axolotl_takes_its_file(name, file_type, folder):
    """It accepts unknown keys, so that ours are held against the fields that it has."""
    config = of("axolotl", "axolotl.utils.schemas.config")
    datasets = of("axolotl", "axolotl.utils.schemas.datasets")
    import yaml

    given = yaml.safe_load(written(folder, "axolotl", name, file_type)["axolotl.yaml"])
    assert set(given) <= set(config.AxolotlInputConfig.model_fields)
    kind = datasets.DPODataset if name == "dpo" else datasets.SFTDataset
    assert set(given["datasets"][0]) <= set(kind.model_fields)
    taken = config.AxolotlInputConfig(**given)
    assert taken.learning_rate == RATES[name]
    assert taken.datasets[0].path == f"train.{file_type}"


@pytest.mark.trainers
def test_axolotl_would_lose_answers_by_its_own_way_with_pairs():
    """Why pairs go to TRL as they are; when this fails, axolotl has mended it and `chat_template.default` can be used."""
    strategy = of("axolotl", "axolotl.prompt_strategies.dpo.chat_template")

    class Trimming:
        """A chat template as most are: it trims, and names the role before the text."""

        chat_template = "any"

        def apply_chat_template(self, messages, **_options):
            return "".join(f"<4>{m['role']}: {m['content'].strip()}\n" for m in messages)

    cfg = {"datasets": [{"field_messages": "prompt"}], "chat_template": "tokenizer_default"}
    transform, _ = strategy.default(cfg)
    for prompt, (answer, rejected) in zip(ASKED, ANSWERS, strict=True):
        row = record(
            "dpo", instruction_id="a", prompt=prompt, answer=answer, rejected=rejected, trainer="axolotl"
        )
        assert transform(row, tokenizer=Trimming())["chosen"].strip() != answer.strip()


def test_axolotl_trains_on_the_last_answer_alone(folder):
    """Every message says whether it counts, so that no field is in some rows only."""
    yaml = pytest.importorskip("yaml")
    (data,) = yaml.safe_load(written(folder, "axolotl", "messages")["axolotl.yaml"])["datasets"]
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    marks = [[turn[data["message_field_training"]] for turn in row["messages"]] for row in rows]
    assert marks == [[False, True], [False, False, False, False, True]]
    assert [(turn["role"], turn["content"]) for turn in rows[1]["messages"]][-1] == ("assistant", SPACED)
    shutil.rmtree(folder)
    written(folder, "axolotl", "messages", "parquet")
    assert pq.read_table(folder / "train.parquet").to_pylist() == rows
    assert [row.prompt for row in read_rows(str(folder / "train.parquet")).rows] == ASKED


@pytest.mark.trainers
@pytest.mark.parametrize("marked", [True, False])
def test_axolotl_learns_the_last_answer_alone(marked, folder):
    """By its own labels; without the field it learns earlier answers, too."""
    strategy = of("axolotl", "axolotl.prompt_strategies.chat_template")
    import yaml

    (data,) = yaml.safe_load(written(folder, "axolotl", "messages")["axolotl.yaml"])["datasets"]
    tokenizer = build_tokenizer()
    field = data["message_field_training"] if marked else None
    prompter = strategy.ChatTemplatePrompter(
        tokenizer,
        tokenizer.chat_template,
        message_property_mappings={"role": "role", "content": "content"},
        message_field_training=field,
    )
    by = strategy.ChatTemplateStrategy(
        prompter,
        tokenizer,
        train_on_inputs=False,
        sequence_len=2048,
        roles_to_train=["assistant"],
        train_on_eos="turn",
    )
    row = record(
        "messages",
        instruction_id="a",
        prompt=ASKED[1],
        answer="It is five.",
        rejected=None,
        trainer="axolotl",
    )
    labels = [label for label in by.tokenize_prompt(row)["labels"] if label != -100]
    learnt = tokenizer.decode(labels, skip_special_tokens=True)
    assert "It is five." in learnt
    assert ("Hello" in learnt) is not marked
    assert "Is it 4?" not in learnt


EARLIER = "1 of 2 rows has earlier answers of the assistant, and {} trains on these too: {}"
TO_ONE = "the format prompt-completion makes it the last one alone"


@pytest.mark.parametrize(
    ("trainer", "line"),
    [
        (("trl",), EARLIER.format("TRL", TO_ONE)),
        (("unsloth",), EARLIER.format("unsloth", TO_ONE)),
        (("verl",), EARLIER.format("verl", "no setting of it changes that")),
        (("trl", "--format", "prompt-completion"), None),
        (("axolotl",), None),
        (("llamafactory",), None),
        (("ms-swift",), None),
        (("open-instruct",), None),
    ],
)
def test_rows_with_answers_before_the_last_are_told_where_they_are_trained_on(run, tmp_path, trainer, line):
    pool, plain = tmp_path / "pool.jsonl", tmp_path / "plain.jsonl"
    rows = [
        {
            "id": f"q{at}",
            "messages": prompt,
            "model": model,
            "response": f"{at} {model}",
            "score": at + at * len(model),
        }
        for at, prompt in enumerate(ASKED)
        for model in ("a-1b", "b-22b")
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain.write_text(
        "".join(json.dumps({**row, "messages": ASKED[0][:1], "id": row["id"]}) + "\n" for row in rows[:2])
    )
    options = ("--clusters", 0, "--method", "random", "--for", *trainer)
    ran = run("select", pool, "--budget", 2, *options, "-o", tmp_path / "chosen")
    assert ran.code == 0, ran.err
    again = run("export", tmp_path / "chosen", "--for", *trainer, "-o", tmp_path / "again")
    files = [
        path.read_text() for path in (tmp_path / "chosen").iterdir() if path.suffix in {".sh", ".py", ".yaml"}
    ]
    if line is None:
        assert "earlier answers" not in "".join([ran.out, ran.err, again.out, again.err, *files])
    else:
        assert f"warning: {line}" in ran.out + ran.err
        assert f"warning: {line}" in again.out + again.err
        assert any(f"# {line}.\n" in text for text in files)
    none = run("select", plain, "--budget", 1, *options, "-o", tmp_path / "none")
    assert none.code == 0, none.err
    assert "earlier answers" not in none.out + none.err


# ms-swift


@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_swift_yaml(name, folder):
    yaml = pytest.importorskip("yaml")
    text = written(folder, "ms-swift", name)["swift.yaml"]
    found = yaml.safe_load(text)
    assert f"swift {'rlhf' if name == 'dpo' else 'sft'} swift.yaml" in text
    assert found.get("rlhf_type") == ("dpo" if name == "dpo" else None)
    assert (found["dataset"], found["tuner_type"], found["use_hf"]) == ("train.jsonl", "full", True)
    assert (found["strict"], found["loss_scale"]) == (True, "last_round")
    assert found["learning_rate"] == RATES[name]
    assert found["output_dir"].startswith("../")


@pytest.mark.trainers
@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_swift_loads_every_row(name, file_type, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dataset = of("ms-swift", "swift.dataset")
    inputs = of("ms-swift", "swift.template.template_inputs")
    written(folder, "ms-swift", name, file_type)
    monkeypatch.chdir(folder)
    rows, _ = dataset.load_dataset(f"train.{file_type}", strict=True)
    assert len(rows) == 2
    for row, (chosen, rejected) in zip(rows, conversations(), strict=True):
        given = inputs.TemplateInputs.from_dict({k: v for k, v in row.items() if v is not None})
        system = chosen[0]["content"] if chosen[0]["role"] == "system" else None
        assert given.chosen.system == system
        assert given.chosen.messages == [m for m in chosen if m["role"] != "system"]
        if name == "dpo":
            assert given.rejected.messages == [m for m in rejected if m["role"] != "system"]


@pytest.mark.trainers
@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_swift_has_every_setting(name, folder):
    """Its command line turns the file into options, and refuses one that it does not know."""
    arguments = of("ms-swift", "swift.arguments")
    import dataclasses

    import yaml

    given = yaml.safe_load(written(folder, "ms-swift", name)["swift.yaml"])
    kind = arguments.RLHFArguments if name == "dpo" else arguments.SftArguments
    assert set(given) <= {field.name for field in dataclasses.fields(kind)}


# LLaMA-Factory


@pytest.mark.parametrize("name", ["messages", "sharegpt", "alpaca", "dpo"])
def test_llamafactory_yaml(name, folder):
    """It refuses `mask_history` for pairs, of which the prompt has no loss."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(written(folder, "llamafactory", name)["llamafactory.yaml"])
    assert (found["stage"], found.get("mask_history")) == (("dpo", None) if name == "dpo" else ("sft", True))


@pytest.mark.trainers
def test_llamafactory_has_the_setting(monkeypatch):
    spec = importlib.machinery.ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", importlib.util.module_from_spec(spec))
    hparams = of("llamafactory", "llamafactory.hparams.data_args")
    assert hparams.DataArguments(mask_history=True).mask_history


@pytest.mark.trainers
@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["messages", "sharegpt", "alpaca", "dpo"])
def test_llamafactory_converts_every_row(name, file_type, folder, monkeypatch):
    """It imports torchaudio, which rows of text do not need and which has no build for CPUs on the package index."""
    spec = importlib.machinery.ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", importlib.util.module_from_spec(spec))
    converter = of("llamafactory", "llamafactory.data.converter")
    parser = of("llamafactory", "llamafactory.data.parser")
    hparams = of("llamafactory", "llamafactory.hparams.data_args")
    written(folder, "llamafactory", name, file_type)
    (entry,) = parser.get_dataset_list(["crowdselect"], str(folder))
    convert = converter.get_dataset_converter(entry.formatting, entry, hparams.DataArguments())
    file = folder / f"train.{file_type}"
    rows = (
        pq.read_table(file).to_pylist()
        if file_type == "parquet"
        else [json.loads(line) for line in file.read_text().splitlines()]
    )
    for row, (chosen, rejected) in zip(rows, conversations(), strict=True):
        found = convert(row)
        spoken = [m for m in chosen if m["role"] != "system"]
        assert found["_prompt"] == spoken[:-1]
        wanted = [chosen[-1], rejected[-1]] if name == "dpo" else [chosen[-1]]
        assert found["_response"] == wanted
        assert found["_system"] == (chosen[0]["content"] if chosen[0]["role"] == "system" else "")


# unsloth


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ["messages", "prompt-completion", "dpo"])
def test_unsloth_script(name, file_type, folder):
    tree = ast.parse(written(folder, "unsloth", name, file_type)["unsloth_train.py"])
    order = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert order.index("unsloth") < order.index("trl")
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    stage = "DPO" if name == "dpo" else "SFT"
    settings = {word.arg: ast.unparse(word.value) for word in calls[f"{stage}Config"].keywords}
    assert float(settings["learning_rate"]) == RATES["dpo" if name == "dpo" else "messages"]
    assert (settings["warmup_steps"], settings["max_length"]) == ("150", "2048")
    assert settings["lr_scheduler_type"] == "'cosine'"
    assert ast.literal_eval(calls["load_dataset"].args[0]) == (
        "parquet" if file_type == "parquet" else "json"
    )


@pytest.mark.extra
@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_trl_has_the_settings_of_the_unsloth_script(name, folder):
    trl = pytest.importorskip("trl")
    import dataclasses

    tree = ast.parse(written(folder, "unsloth", name)["unsloth_train.py"])
    kind = "DPOConfig" if name == "dpo" else "SFTConfig"
    (call,) = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == kind]
    known = {field.name for field in dataclasses.fields(getattr(trl, kind))}
    assert {word.arg for word in call.keywords} <= known


@pytest.mark.trainers
def test_unsloth_has_what_the_script_asks_for(folder):
    """Its import needs a GPU, so that its source is read: the loader's options."""
    home = Path(of("unsloth", "importlib").util.find_spec("unsloth").origin).parent
    loader = ast.parse((home / "models" / "loader.py").read_text())
    (model,) = [n for n in loader.body if isinstance(n, ast.ClassDef) and n.name == "FastLanguageModel"]
    (function,) = [n for n in model.body if isinstance(n, ast.FunctionDef) and n.name == "from_pretrained"]
    known = {argument.arg for argument in function.args.args}
    tree = ast.parse(written(folder, "unsloth", "messages")["unsloth_train.py"])
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    (call,) = [n for n in calls if ast.unparse(n.func) == "FastLanguageModel.from_pretrained"]
    assert {word.arg for word in call.keywords} <= known


# verl


def test_verl_script(folder):
    written(folder, "verl", "messages", "parquet")
    said = typed(folder, "verl.sh", "torchrun", "trainer.total_training_steps=1")
    assert said[:4] == ["--standalone", "--nproc_per_node=1", "-m", "verl.trainer.sft_trainer"]
    found = dict(word.split("=", 1) for word in said[4:])
    assert found["model.path"] == "my/model"
    assert found["data.train_files"] == f"'{folder}/train.parquet'"
    assert found["trainer.default_local_dir"] == f"'{folder}-model-{DIGEST}'"
    assert (found["data.train_batch_size"], found["optim.lr_warmup_steps"]) == ("2", "150")
    assert (found["optim.lr"], found["data.truncation"]) == ("1e-5", "right")
    assert found["trainer.total_training_steps"] == "1"


@pytest.mark.trainers
def test_verl_has_every_setting_and_reads_every_row(folder):
    """Hydra refuses a setting that the configuration lacks; the dataset masks all but the assistant's turns."""
    multiturn = of("verl", "verl.utils.dataset.multiturn_sft_dataset")
    import hydra
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    written(folder, "verl", "messages", "parquet")
    words = typed(folder, "verl.sh", "torchrun")[4:]
    home = Path(importlib.util.find_spec("verl").origin).parent / "trainer" / "config"
    with hydra.initialize_config_dir(str(home), version_base=None):
        config = hydra.compose("sft_trainer_engine", overrides=words)
    assert config.data.train_files == str(folder / "train.parquet")
    assert config.optim.lr == RATES["messages"]
    said = [m["content"] for chosen, _ in conversations() for m in chosen]
    tokens = sorted({c for text in said for c in text} | set("<|>:systemuerant\n"))
    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate(tokens)}, unk_token="<"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="|")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}:{{ m.content }}>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant:{% endif %}"
    )
    rows = multiturn.MultiTurnSFTDataset(str(folder / "train.parquet"), tokenizer, config.data)
    assert len(rows) == 2
    for index, (chosen, _) in enumerate(conversations()):
        row = rows[index]
        learnt = "".join(
            tokenizer.convert_ids_to_tokens(int(token))
            for token, counts in zip(row["input_ids"], row["loss_mask"], strict=True)
            if counts
        )
        assert learnt == "".join(f"{m['content']}>\n" for m in chosen if m["role"] == "assistant")


# open-instruct: no release of it is on an index, so what its programs ask for is written down here, from
# https://github.com/allenai/open-instruct at commit e6c3044 (20 August 2026): `FlatArguments` of open_instruct/finetune.py,
# `DPOExperimentConfig` of open_instruct/dpo_utils.py, `TRANSFORM_FNS` of open_instruct/dataset_transformation.py, whose
# functions read `messages`, or `chosen` and `rejected` with the prompt in both.

SHARED = {
    "model_name_or_path",
    "max_seq_length",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "lr_scheduler_type",
    "warmup_ratio",
    "logging_steps",
    "output_dir",
    "do_not_randomize_output_dir",
    "push_to_hub",
    "try_launch_beaker_eval_jobs",
}
DATA = {"mixer_list", "transform_fn", "skip_cache"}
PROGRAMS = {
    "messages": ("finetune", SHARED | {f"dataset_{name}" for name in DATA} | {"num_train_epochs"}),
    "dpo": ("dpo_tune_cache", SHARED | DATA | {"num_epochs"}),
}
FUNCTIONS = {
    "last_turn_tulu_tokenize_and_truncate_v1",
    "sft_tulu_filter_v1",
    "preference_tulu_tokenize_and_truncate_v1",
    "preference_tulu_filter_v1",
}


@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_open_instruct_script(name, folder):
    text = written(folder, "open-instruct", name)["open-instruct.sh"]
    program, options = PROGRAMS[name]
    said = typed(folder, "open-instruct.sh", "accelerate")
    assert 'cd "${OPEN_INSTRUCT:-.}"' in text
    assert said[:4] == ["launch", "--mixed_precision", "bf16", f"open_instruct/{program}.py"]
    starts = [index for index, word in enumerate(said) if word.startswith("--") and index > 3]
    found = {
        said[begin][2:]: said[begin + 1 : end] for begin, end in zip(starts, [*starts[1:], None], strict=True)
    }
    assert set(found) == options
    mixer = found["mixer_list" if name == "dpo" else "dataset_mixer_list"]
    assert mixer == [str(folder / "train.jsonl"), "1.0"]  # "1" would be one row
    assert set(found["transform_fn" if name == "dpo" else "dataset_transform_fn"]) <= FUNCTIONS
    assert found["warmup_ratio"] == ["0.025"]  # 150 of the 6,000 steps
    assert found["push_to_hub"] == found["try_launch_beaker_eval_jobs"] == ["false"]
    assert ("REFERENCE_LOGPROBS_CACHE_PATH" in text) == (name == "dpo")


def test_open_instruct_scripts_are_quoted(folder):
    for name in ("messages", "dpo"):
        words = shlex.split(written(folder / name, "open-instruct", name)["open-instruct.sh"], comments=True)
        assert "$HERE/train.jsonl" in words


def with_calls(tmp_path, *, plain):
    """Conversations that call a tool, and `plain` others."""
    call = {"function": {"name": "weather", "arguments": "{}"}}
    called = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Rain."},
    ]
    rows = [
        {
            "id": f"q{i}",
            "messages": [{"role": "user", "content": f"Rain in {i}?"}, *(called if i < 4 else [])],
            "model": model,
            "response": f"It rains {i} {model}.",
            "score": i / 10 + place / 3,
        }
        for i in range(4 + plain)
        for place, model in enumerate(("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"))
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            ("--for", "ms-swift"),
            "which the file for ms-swift does not hold; --for trl, --for llamafactory, --for axolotl",
        ),
        (("--for", "verl"), "which the file for verl does not hold; --for trl, --for llamafactory,"),
        (
            ("--for", "llamafactory", "--format", "alpaca"),
            "which --format alpaca does not hold; --format messages would",
        ),
        (("--format", "sharegpt"), "which --format sharegpt does not hold; --format messages would"),
        (
            ("--format", "alpaca", "--file-type", "parquet"),
            "which --format alpaca does not hold; --format messages and --file-type jsonl would",
        ),
        (("--file-type", "parquet"), "which --file-type parquet does not hold; --file-type jsonl would"),
    ],
)
def test_who_does_not_hold_tools_and_who_does_is_told(run, tmp_path, given, line):
    options = ("--clusters", 0, *given)
    none = run("select", with_calls(tmp_path, plain=0), "--budget", 2, *options, "-o", tmp_path / "none")
    assert none.code == 2
    assert "not eligible: 4 no_tools; 4 instructions need tools, " + line in none.err
    some = run("select", with_calls(tmp_path, plain=4), "--budget", 2, *options, "-o", tmp_path / "some")
    assert "warning: 4 instructions need tools, " + line in some.err
    why = run("why", tmp_path / "some", "q0")
    assert "not chosen: no_tools" in why.out
    assert f"to be chosen: write it with {'--' + line.partition('; --')[2].removesuffix(' would')}" in why.out


def test_the_trainers_that_are_named_hold_tools(run, tmp_path):
    pool = with_calls(tmp_path, plain=0)
    refused = run(
        "select", pool, "--budget", 2, "--clusters", 0, "--for", "ms-swift", "-o", tmp_path / "none"
    )
    named = re.findall(r"--for ([a-z-]+)", refused.err)
    assert "llamafactory" in named
    for trainer in named:
        ran = run("select", pool, "--budget", 2, "--clusters", 0, "--for", trainer, "-o", tmp_path / trainer)
        assert ran.code == 0, ran.err
        held = "function_call" if trainer == "llamafactory" else "tool_calls"
        assert f'"{held}"' in (tmp_path / trainer / "train.jsonl").read_text(encoding="utf-8")


CALLS = [
    {"type": "function", "function": {"name": "rain", "arguments": '{"where": "K\u00f6ln", "when": null}'}},
    {"type": "function", "function": {"name": "wind", "arguments": ""}},
]
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {"properties": {}}}}]
CALLED = [
    BRIEF,
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
    {"role": "tool", "content": "No.", "tool_call_id": "c", "name": "rain"},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "Yes."},
]
TAGGED = [
    ("user", "Rain?"),
    ("function_call", {"name": "rain", "arguments": {"where": "K\u00f6ln", "when": None}}),
    ("observation", "No."),
    ("function_call", [{"name": "rain", "arguments": {"where": "K\u00f6ln", "when": None}},
                       {"name": "wind", "arguments": {}}]),
    ("observation", "Yes."),
]  # fmt: skip


def called_record(name):
    return record(
        name, instruction_id="a", prompt=CALLED, answer="It is.", rejected="No.", tools=json.dumps(TOOLS),
        trainer="llamafactory",
    )  # fmt: skip


def _opened(kind, text):
    return kind, json.loads(text) if kind == "function_call" else text


@pytest.mark.parametrize("name", ["messages", "sharegpt", "dpo"])
def test_llamafactory_holds_calls_of_tools_as_turns_of_text(name, tmp_path):
    row = called_record(name)
    turns = row[{"messages": "messages", "sharegpt": "conversations", "dpo": "prompt"}[name]]
    if name == "sharegpt":
        spoken = [
            ({"human": "user", "gpt": "assistant"}.get(t["from"], t["from"]), t["value"]) for t in turns
        ]
        assert row["system"] == BRIEF["content"]
    else:
        assert turns[0] == BRIEF
        assert all(set(turn) == {"role", "content"} for turn in turns)
        spoken = [(turn["role"], turn["content"]) for turn in turns[1:]]
    assert [_opened(*turn) for turn in spoken] == TAGGED + [("assistant", "It is.")] * (name != "dpo")
    assert json.loads(row["tools"]) == TOOLS
    plain = record(
        name, instruction_id="b", prompt=ASKED[1], answer="Yes.", rejected="No.", trainer="llamafactory"
    )
    assert plain["tools"] == ""
    info = json.loads(
        trainer_files("llamafactory", name=name, train_file="t", digest=DIGEST, rows=9)["dataset_info.json"]
    )["crowdselect"]
    assert info["columns"]["tools"] == "tools"
    for file in ("train.jsonl", "train.parquet"):
        if file.endswith("parquet"):
            schema = record_schema(name, trainer="llamafactory")
            pq.write_table(pa.Table.from_pylist([row, plain], schema), tmp_path / file)
        else:
            (tmp_path / file).write_text("".join(json.dumps(each) + "\n" for each in (row, plain)))
        first, second = read_rows(str(tmp_path / file)).rows
        assert [turn["role"] for turn in first.prompt] == [turn["role"] for turn in CALLED]
        assert first.prompt[4]["tool_calls"][0]["function"]["arguments"] == {
            "where": "K\u00f6ln",
            "when": None,
        }
        assert (json.loads(first.tools), second.tools) == (TOOLS, None)


@pytest.mark.trainers
@pytest.mark.parametrize("name", ["messages", "sharegpt", "dpo"])
def test_llamafactory_converts_calls_of_tools(name, folder, monkeypatch):
    spec = importlib.machinery.ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", importlib.util.module_from_spec(spec))
    converter = of("llamafactory", "llamafactory.data.converter")
    parser = of("llamafactory", "llamafactory.data.parser")
    hparams = of("llamafactory", "llamafactory.hparams.data_args")
    written(folder, "llamafactory", name)
    (entry,) = parser.get_dataset_list(["crowdselect"], str(folder))
    convert = converter.get_dataset_converter(entry.formatting, entry, hparams.DataArguments())
    found = convert(called_record(name))
    roles = {"function_call": "function"}
    wanted = [(roles.get(kind, kind), text) for kind, text in TAGGED]
    assert [(t["role"], json.loads(t["content"]) if t["role"] == "function" else t["content"])
            for t in found["_prompt"]] == wanted  # fmt: skip
    assert found["_response"][0] == {"role": "assistant", "content": "It is."}
    assert (json.loads(found["_tools"]), found["_system"]) == (TOOLS, BRIEF["content"])


def test_calls_that_llamafactory_would_skip_are_left_out(run, tmp_path):
    """Two results in a row, and a call beside a text."""
    call = {"function": {"name": "weather", "arguments": "{}"}}
    result = {"role": "tool", "content": "Rain."}
    called = [
        [{"role": "assistant", "content": None, "tool_calls": [call, call]}, result, result],
        [{"role": "assistant", "content": "I look.", "tool_calls": [call]}, result],
        [{"role": "assistant", "content": None, "tool_calls": [call]}, result],
    ]
    rows = [
        {
            "id": f"q{i}",
            "messages": [{"role": "user", "content": f"Rain in {i}?"}, *called[min(i, 2)]],
            "model": model,
            "response": f"It rains {i} {model}.",
            "score": i / 10 + place / 3,
        }
        for i in range(6)
        for place, model in enumerate(("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"))
    ]
    pool = tmp_path / "calls.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = tmp_path / "out"
    ran = run("select", pool, "--budget", 4, "--clusters", 0, "--for", "llamafactory", "-o", out)
    assert ran.code == 0, ran.err
    assert (
        "warning: 2 instructions have turns that do not alternate, which the file for LLaMA-Factory does not hold; --for trl,"
        in ran.err
    )
    assert sorted(row.id for row in read_rows(str(out)).rows) == ["q2", "q3", "q4", "q5"]


def test_a_sharegpt_file_with_calls_reaches_each_trainer_whole(run, tmp_path):
    """What `train` reads is the same, whichever trainer the folder was written for."""
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"What is {i} * 3?"},
                {"from": "function_call", "value": json.dumps({"name": "times", "arguments": {"x": i}})},
                {"from": "observation", "value": str(3 * i)},
                {"from": "gpt", "value": f"{3 * i}, says {model}."},
            ],
            "tools": json.dumps([{"name": "times", "parameters": {}}]),
            "model": model,
            "score": i / 10 + place / 3,
        }
        for i in range(4)
        for place, model in enumerate(("Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct"))
    ]
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps(rows), encoding="utf-8")
    found = {}
    for trainer, more in (
        ("axolotl", ()),
        ("llamafactory", ()),
        ("llamafactory", ("--format", "sharegpt", "--file-type", "parquet")),
    ):
        out = tmp_path / "-".join((trainer, *more[1::2]))
        ran = run("select", pool, "--budget", 4, "--clusters", 0, "--for", trainer, *more, "-o", out)
        assert ran.code == 0, ran.err
        found[out.name] = read_rows(str(out))
    assert len({rows.fingerprint() for rows in found.values()}) == 1
    row = found["axolotl"].rows[0]
    assert [turn["role"] for turn in row.prompt] == ["user", "assistant", "tool"]
    assert row.prompt[1]["tool_calls"][0]["function"]["name"] == "times"
    assert row.tool_names == {"times"}
