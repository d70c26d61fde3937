"""A selection and its pool become a folder to train from; other people's loaders read it."""

import json
import shlex
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import manifest, train
from crowdselect import Options, __version__, export, load_selection, open_pool, select
from crowdselect.errors import InputError, OptionError
from crowdselect.selection.folder import training_records

QUICK = {"clusters": 0, "weights": {"difficulty": 1.0}}


def pool_of(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def answers(prompts: dict, **more) -> list[dict]:
    return [
        {"id": i, **prompt, "model": model, "response": f"{model} on {i}", "score": float(n), **more}
        for i, prompt in prompts.items()
        for n, model in enumerate(("x-7b", "x-70b"))
    ]


def test_rows_come_first_choice_first_with_the_chosen_answer(sim, tmp_path):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=15, clusters=3, answer="random"))
        folder = export(selection, pool, tmp_path / "out")
        rows = selection.rows()
        texts = dict(zip(pool.ids, pool.instructions(), strict=True))
        wanted = pool.responses([(row["id"], row["model"]) for row in rows])
    assert folder == tmp_path / "out"
    assert train(folder) == [
        {
            "id": row["id"],
            "messages": [
                {"role": "user", "content": texts[row["id"]]},
                {"role": "assistant", "content": answer},
            ],
        }
        for row, answer in zip(rows, wanted, strict=True)
    ]


def test_both_file_types_and_any_batch_hold_the_same(sim, tmp_path, monkeypatch):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=25, clusters=0, pairs="best-worst"))
        export(selection, pool, tmp_path / "a")
        export(selection, pool, tmp_path / "b", file_type="parquet")
        monkeypatch.setattr("crowdselect.selection.folder._BATCH", 4)
        export(selection, pool, tmp_path / "c", file_type="parquet")
        export(selection, pool, tmp_path / "d")
    rows = train(tmp_path / "a")
    assert len(rows) == 25
    assert pq.read_table(tmp_path / "b" / "train.parquet").to_pylist() == rows
    assert pq.read_table(tmp_path / "c" / "train.parquet").to_pylist() == rows
    assert train(tmp_path / "d") == rows


def test_only_the_chosen_answers_are_fetched(sim, tmp_path, monkeypatch):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=5, clusters=0, pairs="best-worst"))
        asked = []
        real = type(pool).exported
        monkeypatch.setattr(
            type(pool),
            "exported",
            lambda self, pairs, samples: asked.extend(pairs) or real(self, pairs, samples),
        )
        assert len(list(training_records(selection, pool, format="dpo"))) == 5
    rows = selection.rows()
    wanted = [(r["id"], r["model"]) for r in rows] + [(r["id"], r["rejected_model"]) for r in rows]
    assert sorted(asked) == sorted(wanted)


def test_a_selection_comes_back_from_its_folder(sim, tmp_path):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=15, clusters=3, exclude=None))
        export(selection, pool, tmp_path / "out", license="mit")
    back = load_selection(tmp_path / "out")
    assert back.table.equals(selection.table)
    assert back.options == selection.options
    assert back.facts == selection.facts
    assert back.warnings == selection.warnings
    assert back.chosen == selection.chosen
    assert back.explain(back.chosen[0]) == selection.explain(selection.chosen[0])


def test_the_manifest_says_what_was_done(sim, tmp_path):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=15, clusters=3, seed=4))
        export(selection, pool, tmp_path / "out", format="alpaca", trainer="llamafactory")
        fingerprint = pool.fingerprint()
    found = manifest(tmp_path / "out")
    assert (found["tool"], found["kind"], found["version"]) == ("crowdselect", "selection", __version__)
    assert found["versions"].keys() >= {"python", "duckdb", "numpy", "pyarrow", "scikit-learn", "scipy"}
    assert found["options"]["seed"] == 4
    assert found["facts"]["pool"] == str(sim.absolute())
    assert found["facts"]["fingerprint"] == fingerprint
    assert sum(found["counts"].values()) == 120
    assert found["counts"]["selected"] == 15
    assert found["export"] == {
        "format": "alpaca",
        "file": "train.jsonl",
        "trainer": "llamafactory",
        "markers_cut": 0,
    }
    assert found["seconds"].keys() >= {"rewards and metrics", "eligibility", "clusters", "choice"}
    assert all(seconds >= 0 for seconds in found["seconds"].values())


def test_a_pool_without_texts_gives_no_training_file(tmp_path):
    rows = [{"id": str(i), "x-7b": float(i), "x-70b": 2.0 * i} for i in range(6)]
    with open_pool(pool_of(tmp_path / "matrix.parquet", rows)) as pool:
        selection = select(pool, Options(budget=2, **QUICK))
        folder = export(selection, pool, tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "manifest.json", "selection.parquet"]
    assert manifest(folder)["export"]["file"] is None
    assert any("so there is no training file" in w for w in manifest(folder)["warnings"])


@pytest.mark.parametrize(
    "asked", [{"trainer": "trl"}, {"trainer": "verl", "format": "rl"}, {"format": "messages"}]
)
def test_a_pool_without_texts_is_refused_for_a_trainer_or_a_format(tmp_path, asked):
    rows = [{"id": str(i), "x-7b": float(i), "x-70b": 2.0 * i} for i in range(6)]
    with open_pool(pool_of(tmp_path / "matrix.parquet", rows)) as pool:
        selection = select(pool, Options(budget=2, **QUICK))
        with pytest.raises(InputError, match=r"holds no instruction text .*, so there is no training file"):
            export(selection, pool, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_chats_keep_their_turns(tmp_path):
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?\u2028\n"},
    ]
    with open_pool(pool_of(tmp_path / "p.parquet", answers({"a": {"messages": chat}}))) as pool:
        selection = select(pool, Options(budget=1, **QUICK))
        for file_type in ("jsonl", "parquet"):
            export(selection, pool, tmp_path / file_type, file_type=file_type)
    rows = (tmp_path / "jsonl" / "train.jsonl").read_text().split("\n")
    assert json.loads(rows[0])["messages"] == [*chat, {"role": "assistant", "content": "x-70b on a"}]
    assert rows[1:] == [""]
    assert pq.read_table(tmp_path / "parquet" / "train.parquet").to_pylist() == [json.loads(rows[0])]


def test_turns_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path):
    chat = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}]
    with open_pool(pool_of(tmp_path / "p.parquet", answers({"odd id": {"messages": chat}}))) as pool:
        selection = select(pool, Options(budget=1, **QUICK))
        for options in ({"format": "alpaca"}, {"format": "sharegpt"}, {"trainer": "llamafactory"}):
            with pytest.raises(InputError, match=r"id 'odd id': its messages are of user, user"):
                export(selection, pool, tmp_path / "out", **options)
        assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]
        export(selection, pool, tmp_path / "out")
    assert len(train(tmp_path / "out")[0]["messages"]) == 3


def test_an_answer_that_is_gone_is_an_error(tmp_path):
    rows = answers({"a": {"instruction": "A"}})
    with open_pool(pool_of(tmp_path / "p.parquet", rows)) as pool:
        selection = select(pool, Options(budget=1, **QUICK))
    for response in ("", None, " \n"):
        changed = [{**row, "response": response if row["model"] == "x-70b" else "y"} for row in rows]
        with (
            open_pool(pool_of(tmp_path / "q.parquet", changed)) as pool,
            pytest.raises(
                InputError,
                match=r"q.parquet: the answer of 'x-70b' to id 'a' is gone; was the pool changed\?",
            ),
        ):
            export(selection, pool, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_are_checked_before_anything_is_written(sim, tmp_path):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=3, **QUICK))
        for options, said in (
            ({"format": "dpo"}, "needs preference pairs.*select again with `pairs='best-worst'`"),
            ({"file_type": "csv"}, "`file_type='csv'` is unknown"),
            ({"trainer": "x"}, "`trainer='x'` is unknown"),
        ):
            with pytest.raises(OptionError, match=said):
                export(selection, pool, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_pairs_are_exported_as_nothing_else(sim, tmp_path):
    with open_pool(sim) as pool:
        selection = select(pool, Options(budget=3, pairs="best-worst", **QUICK))
        said = "is of preference pairs, which `format='messages'` cannot hold; use `format='dpo'`"
        with pytest.raises(OptionError, match=said):
            export(selection, pool, tmp_path / "out", format="messages")


def test_texts_of_every_kind_arrive_unchanged(tmp_path):
    texts = [
        "日本語 🙂",
        "tab\tnew\nline\r\n",
        "null\0 in it",
        "\x1b[31m",
        "x\u2028\u2029\x85y",
        '"quoted" \\ back',
        "<|im_end|> within",
    ]
    rows = answers({str(i): {"instruction": text} for i, text in enumerate(texts)})
    rows = [{**row, "response": f"{row['model']}: {row['instruction']}"} for row in rows]
    with open_pool(pool_of(tmp_path / "p.parquet", rows)) as pool:
        selection = select(pool, Options(budget=len(texts), **QUICK))
        for file_type in ("jsonl", "parquet"):
            export(selection, pool, tmp_path / file_type, file_type=file_type)
    with (tmp_path / "jsonl" / "train.jsonl").open(encoding="utf-8", newline="\n") as file:
        found = [json.loads(line) for line in file]
    assert found == pq.read_table(tmp_path / "parquet" / "train.parquet").to_pylist()
    repaired = {text.replace("\0", "\ufffd").replace("\x1b", "\ufffd") for text in texts}
    assert {row["messages"][0]["content"] for row in found} == repaired
    assert all(row["messages"][1]["content"] == f"x-70b: {row['messages'][0]['content']}" for row in found)


# Other people's loaders


@pytest.fixture(scope="module")
def folders(sim, tmp_path_factory):
    """One folder per format, file type and trainer that goes together, all of the same eight rows."""
    place = tmp_path_factory.mktemp("folders")
    made = {}
    with open_pool(sim) as pool:
        for name in ("messages", "prompt-completion", "sharegpt", "alpaca", "dpo"):
            selection = select(
                pool, Options(budget=8, clusters=0, pairs="best-worst" if name == "dpo" else None)
            )
            trainers = {
                "messages": ("trl", "llamafactory"),
                "prompt-completion": ("trl",),
                "dpo": ("trl", "llamafactory"),
            }
            for trainer in trainers.get(name, ("llamafactory",)):
                for file_type in ("jsonl", "parquet"):
                    key = f"{name} {file_type} {trainer}"
                    made[key] = export(
                        selection, pool, place / key, format=name, file_type=file_type, trainer=trainer
                    )
    return made


def rows_of(folder: Path) -> list[dict]:
    parquet = folder / "train.parquet"
    return pq.read_table(parquet).to_pylist() if parquet.exists() else train(folder)


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")  # of another package
def test_datasets_reads_the_training_file_alone(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    for key, folder in folders.items():
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
        assert list(loaded) == ["train"], key
        assert loaded["train"].to_list() == rows_of(folder), key
        assert loaded["train"].column_names == list(rows_of(folder)[0]), key


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")  # of other packages
def test_trl_trains_on_every_format_that_it_reads(folders, tmp_path, monkeypatch):
    """One step of TRL's own trainers with a model of random weights."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trl = pytest.importorskip("trl")
    import datasets
    from trl.data_utils import is_conversational

    from tiny_models import build_model

    model = str(build_model(tmp_path / "model", context=1024))
    common = {
        "output_dir": str(tmp_path / "trained"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "max_length": 256,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
    }
    for key in ("messages jsonl trl", "prompt-completion parquet trl", "dpo jsonl trl", "dpo parquet trl"):
        rows = datasets.load_dataset(str(folders[key]), cache_dir=str(tmp_path / "cache"), split="train")
        assert is_conversational(rows[0]), key
        trainer, config = (
            (trl.DPOTrainer, trl.DPOConfig) if key.startswith("dpo") else (trl.SFTTrainer, trl.SFTConfig)
        )
        made = trainer(model=model, args=config(**common), train_dataset=rows)
        assert made.train().training_loss > 0, key
        assert len(made.train_dataset) == 8


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore")  # of other packages
@pytest.mark.parametrize("name", ["messages", "dpo"])
def test_trl_knows_every_option_of_the_script(folders, name):
    """Read by the parser of TRL's own command, which refuses what it does not know."""
    pytest.importorskip("trl")
    script = (folders[f"{name} jsonl trl"] / "trl.sh").read_text()
    command = shlex.split(
        script.split("\ntrl ")[1].replace("\\\n", " ").replace('"$@"', "--use_cpu True --bf16 False")
    )
    module = import_module(f"trl.scripts.{command[0]}")
    _script, training, model, *_ = module.make_parser().parse_args_and_config(command[1:])
    assert (training.num_train_epochs, training.warmup_steps, training.max_length) == (3, 2, 2048)
    assert training.learning_rate == (1e-6 if name == "dpo" else 1e-5)
    assert str(training.lr_scheduler_type.value) == "cosine"
    assert model.model_name_or_path == "$MODEL"


@pytest.mark.extra
def test_llamafactory_yaml_is_yaml(folders):
    yaml = pytest.importorskip("yaml")
    for key in ("alpaca jsonl llamafactory", "dpo jsonl llamafactory"):
        found = yaml.safe_load((folders[key] / "llamafactory.yaml").read_text())
        assert isinstance(found["learning_rate"], float)
        assert found["num_train_epochs"] == 3
        assert found["bf16"] is True
