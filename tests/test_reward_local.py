"""Reward models of transformers': tiny ones of three shapes, built here and loaded as a real one is."""

import json
import math
import shutil

import pytest

pytestmark = pytest.mark.extra
pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch  # noqa: E402

from crowdselect.errors import InputError, OptionError  # noqa: E402
from crowdselect.reward import local  # noqa: E402
from crowdselect.reward.loading import LocalOptions, read_card  # noqa: E402
from crowdselect.reward.local import (  # noqa: E402
    LocalScorer,
    batches,
    cut,
    encode,
)
from crowdselect.reward.protocol import Item  # noqa: E402
from crowdselect.reward.scoring import self_test  # noqa: E402
from crowdselect.reward.specs import parse_spec  # noqa: E402
from tiny_rewards import NO_SYSTEM, SHAPES, TEMPLATE, build_reward, reward_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model of each shape."""
    home = tmp_path_factory.mktemp("rewards")
    return {shape: build_reward(home / shape, shape) for shape in SHAPES}


@pytest.fixture(autouse=True)
def _quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # tests run side by side


def item(answer, question="How many days are in a leap year?", **more):
    return Item(
        [
            *more.get("before", []),
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    )


ITEMS = [item("word " * n) for n in (1, 50, 3, 90, 7, 20, 33, 2, 64, 12)]


def scorer(folder, **options):
    part = options.pop("part", "")
    return LocalScorer(parse_spec(f"hf:{folder}{part}"), LocalOptions(**options))


def outcomes(made, items):
    found = {at: outcome for some in made.score(items) for at, outcome in some}
    assert sorted(found) == list(range(len(items)))
    return [found[at] for at in range(len(items))]


def scores(made, items):
    return [outcome.score for outcome in outcomes(made, items)]


def by_hand(folder, items):
    """What the model's own card would do: one conversation at a time, the template's text and nothing else."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for one in items:
        ids = tokenizer.apply_chat_template(one.messages, tokenize=True, return_dict=False)
        if tokenizer.cls_token_id is not None:
            ids = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        with torch.no_grad():
            found.append(model(input_ids=torch.tensor([ids])).logits[0][0].item())
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("knows_padding", [True, False])
def test_scores_are_the_models_own_whatever_the_batch(shape, knows_padding, tmp_path, folders):
    folder = folders[shape] if knows_padding else build_reward(tmp_path / "m", shape, knows_padding=False)
    expected = by_hand(folder, ITEMS)
    assert max(expected) - min(expected) > 0.01
    for tokens in (8, 300, 1000, 100_000):
        assert scores(scorer(folder, batch_tokens=tokens), ITEMS) == pytest.approx(expected, abs=1e-4)
    assert scores(scorer(folder), ITEMS[::-1]) == pytest.approx(expected[::-1], abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_bos_and_no_more(shape, folders):
    card = read_card(parse_spec(f"hf:{folders[shape]}"), LocalOptions())
    begin = card.tokenizer.cls_token_id if shape == "bert" else card.tokenizer.bos_token_id
    (encoded,) = encode([item("Yes.")], card)
    assert encoded.ids[0] == begin
    assert encoded.ids.count(begin) == 1
    twice = card.tokenizer
    twice.chat_template = (
        twice.decode([begin]) + twice.decode([begin]) + TEMPLATE.replace("{{ bos_token }}", "")
    )
    (encoded,) = encode([item("Yes.")], card)
    assert encoded.ids.count(begin) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_of_the_tokenizer_changes_nothing(side, tmp_path, folders):
    folder = build_reward(tmp_path / "m", "llama", side=side)
    assert scores(scorer(folder), ITEMS) == pytest.approx(scores(scorer(folders["llama"]), ITEMS), abs=1e-5)


def test_truncation(folders):
    whole = outcomes(scorer(folders["llama"]), ITEMS)
    assert not any(outcome.truncated for outcome in whole)
    for side in ("left", "right"):
        made = scorer(folders["llama"], max_length=40, truncation_side=side)
        assert made.settings["truncation_side"] == side
        found = outcomes(made, ITEMS)
        card = read_card(parse_spec(f"hf:{folders['llama']}"), LocalOptions())
        assert [outcome.truncated for outcome in found] == [len(one.ids) > 40 for one in encode(ITEMS, card)]
        assert 0 < sum(outcome.truncated for outcome in found) < len(ITEMS)
        kept = [at for at, outcome in enumerate(found) if not outcome.truncated]
        assert [found[at].score for at in kept] == pytest.approx([whole[at].score for at in kept], abs=1e-5)
    longest = item("word " * 2000)
    assert outcomes(scorer(folders["llama"]), [longest])[0].truncated  # the model's own longest length
    assert scorer(folders["bert"]).settings["max_length"] == 512


def test_cut_keeps_what_a_model_reads_its_score_from(folders):
    card = read_card(parse_spec(f"hf:{folders['bert']}"), LocalOptions(max_length=20, truncation_side="left"))
    (encoded,) = encode([item("word " * 50)], card)
    assert (encoded.ids[0], encoded.ids[-1]) == (card.tokenizer.cls_token_id, card.tokenizer.sep_token_id)
    assert len(encoded.ids) == len(encoded.types) == 20
    assert cut([1, 2, 3], most=None, side="left", first=0, last=0) == [1, 2, 3]
    assert cut([1, 2, 3, 4], most=2, side="right", first=0, last=0) == [1, 2]


def test_batches_hold_the_budget():
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    made = batches(lengths, tokens=12)
    assert sorted(at for batch in made for at in batch) == list(range(11))
    assert all(len(batch) * max(lengths[at] for at in batch) <= 12 for batch in made)
    assert batches([], tokens=8) == []


def test_little_padding(folders):
    made = scorer(folders["llama"], batch_tokens=2000)
    scores(made, [item("word " * (1 + n * 7 % 90)) for n in range(80)])
    assert made.padding < 0.10


def test_trained_one_passes_the_self_test_and_its_opposite_does_not(tmp_path):
    folder = build_reward(tmp_path / "good", train=60)
    made = scorer(folder)
    assert self_test("good", lambda items: outcomes(made, items)) == []
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight *= -1
    model.save_pretrained(folder)
    assert scorer(folder).settings["revision"] != made.settings["revision"]
    made = scorer(folder)
    warned = self_test("bad", lambda items: outcomes(made, items))
    assert "bad prefers the bad answer" in warned[0]


def test_same_output_for_all(tmp_path, folders):
    from transformers import AutoModelForSequenceClassification

    folder = shutil.copytree(folders["llama"], tmp_path / "m")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight *= 0
    model.save_pretrained(folder)
    made = scorer(folder)
    assert any(
        "gives 0 to both answers" in line for line in self_test("x", lambda items: outcomes(made, items))
    )


def test_nan_is_no_score(tmp_path, folders):
    from transformers import AutoModelForSequenceClassification

    folder = shutil.copytree(folders["llama"], tmp_path / "m")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight *= math.nan
    model.save_pretrained(folder)
    assert {(o.score, o.reason) for o in outcomes(scorer(folder), ITEMS[:2])} == {
        (None, "the scorer gave NaN")
    }


def test_two_outputs_need_a_choice(tmp_path):
    folder = build_reward(tmp_path / "m", outputs=2)
    with pytest.raises(OptionError) as caught:
        scorer(folder)
    assert f"{folder}: has 2 outputs (LABEL_0, LABEL_1)" in str(caught.value)
    assert f"hf:{folder}#LABEL_0" in str(caught.value)
    first, second = scores(scorer(folder, part="#LABEL_0"), ITEMS), scores(scorer(folder, part="#1"), ITEMS)
    assert first != second
    assert scores(scorer(folder, part="#logits:1"), ITEMS) == second
    for part in ("#LABEL_2", "#7", "#logits"):
        with pytest.raises(OptionError, match="name one of its outputs"):
            scores(scorer(folder, part=part), ITEMS)


OWN_CODE = """
from transformers import LlamaForSequenceClassification
class Own(LlamaForSequenceClassification):
    def forward(self, **inputs):
        made = super().forward(**inputs)
        made["rewards"] = made.logits
        made["score"] = made.logits.mean(dim=1) + 100
        return made
"""


def test_own_code_runs_only_when_asked(tmp_path):
    folder = build_reward(tmp_path / "own", outputs=3)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(OWN_CODE)
    with pytest.raises(OptionError, match="add `trust_remote_code=True`"):
        scorer(folder)
    made = scorer(folder, trust_remote_code=True)
    assert made.settings["trust_remote_code"] is True
    own = scores(made, ITEMS)
    assert min(own) > 50
    parts = [scores(scorer(folder, part=f"#rewards:{k}", trust_remote_code=True), ITEMS) for k in range(3)]
    assert own == pytest.approx([100 + sum(row) / 3 for row in zip(*parts, strict=True)], abs=1e-3)
    assert scores(scorer(folder, part="#score", trust_remote_code=True), ITEMS) == own


def test_missing_chat_template(tmp_path):
    folder = build_reward(tmp_path / "m", "bert", template=None)
    with pytest.raises(InputError) as caught:
        scorer(folder)
    assert f"{folder}: its tokenizer has no chat template" in str(caught.value)
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    given = scores(scorer(folder, chat_template=str(tmp_path / "t.jinja")), ITEMS)
    pairs = scores(scorer(folder, chat_template="pair"), ITEMS)
    assert given != pairs
    assert scores(scorer(folder, chat_template="pair", batch_tokens=8), ITEMS) == pytest.approx(
        pairs, abs=1e-4
    )
    with pytest.raises(OptionError, match=r"gone.jinja: cannot be read"):
        scorer(folder, chat_template="gone.jinja")


def test_template_that_refuses_a_conversation(tmp_path):
    folder = build_reward(tmp_path / "m", "gemma", template=NO_SYSTEM + TEMPLATE)
    system = item("Yes.", before=[{"role": "system", "content": "Be brief."}])
    found = outcomes(scorer(folder), [item("Yes."), system, item("No.")])
    assert found[1].reason == "the chat template refuses it: System role not supported"
    assert found[0].score is not None
    assert found[2].score is not None


def test_folders_that_are_no_reward_model(tmp_path):
    from tiny_models import build_model

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("hello")
    with pytest.raises(
        InputError, match=r"notes: not a model: there is no config.json in this folder; found read.me"
    ):
        scorer(tmp_path / "notes")
    with pytest.raises(InputError, match="this is a file"):
        scorer(tmp_path / "notes" / "read.me")
    with pytest.raises(InputError, match="no such folder"):
        scorer(tmp_path / "gone")
    (tmp_path / "notes" / "config.json").write_text("{")
    with pytest.raises(InputError, match="notes: cannot be loaded as a reward model"):
        scorer(tmp_path / "notes")
    causal = build_model(tmp_path / "causal")
    config = json.loads((causal / "config.json").read_text()) | {"num_labels": 1, "id2label": {"0": "x"}}
    (causal / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"not a reward model: the weights score.weight are not in it"):
        scores(scorer(causal), ITEMS)


def test_batches_that_do_not_fit_are_halved(folders, monkeypatch):
    alike = [item(f"word {n} and so on") for n in range(10)]
    made = scorer(folders["llama"])
    expected = scores(made, alike)
    made = scorer(folders["llama"])
    whole, tried = made._values, []

    def small(batch, *args):
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return whole(batch, *args)

    monkeypatch.setattr(made, "_values", small)
    assert scores(made, alike) == pytest.approx(expected, abs=1e-4)
    assert tried[0] == 10
    assert made.notes == ["a batch did not fit into memory, so batches were halved"]

    def none(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(made, "_values", none)
    found = outcomes(made, alike[:2])
    assert all("out of memory at" in outcome.reason and outcome.passing for outcome in found)

    def other(*_):
        raise RuntimeError("mat1 and mat2 shapes")

    monkeypatch.setattr(made, "_values", other)
    with pytest.raises(RuntimeError, match="mat1"):
        scores(made, alike)


def test_half_precision(folders):
    found = scores(scorer(folders["llama"], dtype="bfloat16"), ITEMS)
    assert found == pytest.approx(scores(scorer(folders["llama"]), ITEMS), abs=0.2)
    assert (
        local.LocalScorer(parse_spec(f"hf:{folders['llama']}"), LocalOptions()).settings["dtype"] == "float32"
    )
    with pytest.raises(OptionError, match="`device` 'cuda:7' cannot be used"):
        scores(scorer(folders["llama"], device="cuda:7"), ITEMS)


def test_tokenizers_do_add_what_a_template_writes_too():
    """The trap that the tests above guard against is there."""
    tokenizer = reward_tokenizer("llama", template=TEMPLATE)
    text = tokenizer.apply_chat_template(ITEMS[0].messages, tokenize=False)
    assert tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2


def test_a_head_without_training_ends_the_run(folders, run, tmp_path):
    """One score for twenty different answers: here the weights of the head are all 0."""
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(folders["llama"], tmp_path / "flat")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "flat")
    torch.nn.init.zeros_(model.score.weight)
    model.save_pretrained(tmp_path / "flat")
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"Answer {n}"} for n in range(24)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("reward", tmp_path / "p.jsonl", "--with", f"hf:{tmp_path / 'flat'}", "--no-self-test")
    command += ("-o", tmp_path / "r.parquet")
    ran = run(*command)
    assert ran.code == 2
    assert "flat: the first 20 different answers all have the score 0" in ran.err
    assert run(*command, "--keep-going").code == 0
