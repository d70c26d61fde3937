"""Models on this machine: the real libraries on tiny models of random weights."""

import asyncio
import json

import pytest

from crowdselect.ask.calls import make_request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.errors import CallError, InputError

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.extra

PROMPTS = [
    "Hi",
    "Explain why the sky is blue in two sentences.",
    "List three uses of copper, please. " * 3,
    "é\U0001f993",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_models import build_model

    return build_model(tmp_path_factory.mktemp("models") / "one")


def answers(folder, prompts=PROMPTS, **values):
    from crowdselect.ask.local_client import LocalClient

    async def go():
        client = LocalClient(
            Endpoint("m", local=str(folder), model=str(folder), **{"max_tokens": 12, **values})
        )
        requests = [make_request([{"role": "user", "content": text}]) for text in prompts]
        try:
            return await asyncio.gather(
                *(client.ask(request) for request in requests), return_exceptions=True
            )
        finally:
            await client.close()

    return asyncio.run(go())


def reference(folder, text, tokens):
    """transformers' own greedy decoding of one prompt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        made = model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True), ids[
        "input_ids"
    ].shape[1]


def test_a_batch_answers_as_one_by_one_and_as_transformers_does(folder):
    together = answers(folder, temperature=0, batch_size=4)
    alone = answers(folder, temperature=0, batch_size=1)
    assert together == alone
    for text, reply in zip(PROMPTS, together, strict=True):
        wanted, prompt_tokens = reference(folder, text, 12)
        assert (reply.text, reply.prompt_tokens) == (wanted, prompt_tokens)
        assert reply.finish_reason in {"length", "stop"}
        assert (
            (reply.completion_tokens == 12)
            if reply.finish_reason == "length"
            else (reply.completion_tokens <= 12)
        )


def test_samples_depend_on_seed_and_request_and_not_on_the_batch(folder):
    first = answers(folder, temperature=1.0, seed=1, batch_size=4)
    assert answers(folder, temperature=1.0, seed=1, batch_size=2) == first
    assert answers(folder, list(reversed(PROMPTS)), temperature=1.0, seed=1, batch_size=4) == first[::-1]
    assert answers(folder, temperature=1.0, seed=2, batch_size=4) != first
    assert answers(folder, temperature=0, batch_size=4) != first


def test_draws_follow_the_distribution():
    import torch

    from crowdselect.ask.local_client import _Gumbel

    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(4000, 3)
    drawn = _Gumbel(torch, list(range(4000)))(None, logits).argmax(-1)
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.03)


def test_what_does_not_fit_fails_alone(folder):
    replies = answers(folder, ["Hi", "long " * 600], temperature=0, batch_size=2)
    assert replies[0].text is not None
    assert isinstance(replies[1], CallError)
    assert replies[1].verdict == "failed"
    assert "more than the model's 512" in str(replies[1])


def test_a_model_that_is_not_there_stops_with_a_message(tmp_path):
    (reply,) = answers(tmp_path / "none", ["Hi"])
    assert isinstance(reply, CallError)
    assert reply.verdict == "stop"
    assert "cannot be loaded" in str(reply)
    with pytest.raises(InputError, match="extra_body is for servers"):
        answers(tmp_path, ["Hi"], extra_body={"top_k": 1})


def test_from_instructions_to_a_pool(folder, tmp_path):
    from crowdselect.collect.job import Task, collect
    from crowdselect.pool.pool import open_pool

    rows = [{"id": f"i{n}", "turns": [f"Question {n}", "And then?"]} for n in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "crowd.toml").write_text(
        f'[[model]]\nname = "tiny"\nlocal = {json.dumps(str(folder))}\nmax_tokens = 8\nbatch_size = 4\ntemperature = 1.0\n'
    )
    task = Task(*(str(tmp_path / name) for name in ("in.jsonl", "crowd.toml", "pool.parquet")), samples=2)
    report = collect(task)
    assert (report.tallies["tiny"].rows, report.tallies["tiny"].missing) == (12, 0)
    with open_pool(tmp_path / "pool.parquet") as pool:
        assert pool.models == ("tiny",)
        assert len(pool.ids) == 6
