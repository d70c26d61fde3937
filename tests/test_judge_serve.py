"""A tiny language model of random weights as a judge, through `transformers serve`: its babble is no score, a verdict is one."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from judging import write_jsonl
from test_collect_serve import served  # noqa: F401  (a fixture)
from tiny_models import CHAT_TEMPLATE, build_tokenizer

pytest.importorskip("openai")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.extra

VERDICT = "[[8]]"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """One that babbles, and one whose template has it continue with the verdict it was trained to say."""
    folder = tmp_path_factory.mktemp("judges")
    return {name: build_judge(folder / name, trained=name == "steady") for name in ("babbler", "steady")}


def build_judge(folder: Path, *, trained: bool) -> Path:
    """Save a tiny judge; with `trained` its chat template ends in a mark after which it says the verdict."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
        if trained:
            tokenizer.chat_template = (
                "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"  # forgets what was asked
            )
            train(model, tokenizer)
        else:
            tokenizer.chat_template = CHAT_TEMPLATE
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(model, tokenizer) -> None:
    """Fit the one answer."""
    import torch

    ids = torch.tensor([tokenizer(f"<|assistant|>\n{VERDICT}<|end|>")["input_ids"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(60):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_babble_is_missing_and_a_verdict_is_a_score(models, served, run, tmp_path):  # noqa: F811  (the fixture)
    rows = [
        {"id": f"q{n}", "instruction": "Why?", "model": "m", "response": f"Because {n}."} for n in range(3)
    ]
    pool = write_jsonl(tmp_path / "p.jsonl", rows)
    crowd = tmp_path / "crowd.toml"
    tables = [
        f'[[judge]]\nname = "{name}"\nmodel = "{path}"\nbase_url = "{served}"\nmax_tokens = 24\nmax_concurrency = 1\n'
        for name, path in models.items()
    ]
    crowd.write_text("".join(tables))
    found = {}
    for name in models:
        out = tmp_path / f"{name}.parquet"
        ran = run(
            "reward", pool, "--with", f"judge:{crowd}#{name}", "-o", out, "--no-self-test", "--no-logprobs"
        )
        found[name] = (ran.code, pq.read_table(out).to_pylist())
    code, rows = found["babbler"]
    assert code == 3
    for row in rows:
        assert row["babbler"] is None
        assert "no score can be read" in row["reason"] or "no verdict: cut off (length)" in row["reason"]
    code, rows = found["steady"]
    assert [row["steady"] for row in rows] == [8.0] * 3, rows
    assert code == 0
