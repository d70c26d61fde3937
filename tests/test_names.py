"""What a name says: family and size, and nothing that it does not say."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.names import read_name

PAPER = {
    "gemma-2-it": {"gemma-2-2b-it": 2, "gemma-2-9b-it": 9, "gemma-2-27b-it": 27},
    "llama-3-instruct": {"Meta-Llama-3-8B-Instruct": 8, "Meta-Llama-3-70B-Instruct": 70},
    "llama-3.1-instruct": {
        "Meta-Llama-3.1-8B-Instruct": 8,
        "Meta-Llama-3.1-70B-Instruct": 70,
        "Meta-Llama-3.1-405B-Instruct": 405,
    },
    "phi-3-128k-instruct": {
        "Phi-3-mini-128k-instruct": 3.8,
        "Phi-3-small-128k-instruct": 7,
        "Phi-3-medium-128k-instruct": 14,
    },
    "qwen2-instruct": {"Qwen2-1.5B-Instruct": 1.5, "Qwen2-7B-Instruct": 7, "Qwen2-72B-Instruct": 72},
    "qwen2.5-instruct": {
        "Qwen2.5-3B-Instruct": 3,
        "Qwen2.5-7B-Instruct": 7,
        "Qwen2.5-14B-Instruct": 14,
        "Qwen2.5-32B-Instruct": 32,
        "Qwen2.5-72B-Instruct": 72,
    },
}


def test_a_path_that_ends_with_a_slash_names_its_last_folder() -> None:
    assert read_name("/models/Meta-Llama-3.1-8B-Instruct/") == ("llama-3.1-instruct", 8)


@pytest.mark.parametrize(
    ("name", "family", "size_b"),
    [(name, family, size) for family, models in PAPER.items() for name, size in models.items()],
)
def test_the_papers_nineteen_models(name: str, family: str, size_b: float) -> None:
    assert read_name(name) == (family, size_b)


@pytest.mark.parametrize(
    ("name", "family", "size_b"),
    [
        ("Qwen1.5-0.5B-Chat", "qwen1.5-chat", 0.5),
        ("Qwen2.5-0.5B", "qwen2.5", 0.5),
        ("SmolLM2-135M-Instruct", "smollm2-instruct", 0.135),
        ("bloom-7b1", "bloom", 7.1),
        ("stablelm-2-1_6b", "stablelm-2", 1.6),
        ("Llama_2_7b", "llama-2", 7),
        ("llama-v3p1-405b-instruct", "llama-3.1-instruct", 405),
        ("llama3.1:8b", "llama3.1", 8),
        # a number that is not a size
        ("OLMo-2-1124-7B", "olmo-2-1124", 7),
        ("OLMo-2-1124-13B", "olmo-2-1124", 13),
        ("Qwen2.5-7B-Instruct-1M", "qwen2.5-instruct-1m", 7),
        ("Mistral-Small-24B-Instruct-2501", "mistral-small-instruct-2501", 24),
        ("Llama-3-8B-OpenHermes-243K", "llama-3-openhermes-243k", 8),
        ("foo-7b-3e", "foo-3e", 7),
        # mixtures: the total, or nothing
        ("Mixtral-8x7B-Instruct-v0.1", "mixtral-instruct-v0.1", 46.7),
        ("Mixtral-8x22B-Instruct-v0.1", "mixtral-instruct-v0.1", 141),
        ("Tanuki-8x8B-dpo-v1.0", "tanuki-dpo-v1.0", None),
        ("Qwen3-30B-A3B", "qwen3", 30),
        ("granite-3.1-3b-a800m-instruct", "granite-3.1-instruct", 3),
        ("Hunyuan-A13B-Instruct", "hunyuan-instruct", None),
        ("gemma-3n-E4B-it", "gemma-3n-it", None),
        ("Foo-17B-128E-Instruct", "foo-instruct", None),
        ("Llama-4-Scout-17B-16E-Instruct", "llama-4-instruct", 109),
        ("Llama-4-Maverick-17B-128E-Instruct-FP8", "llama-4-instruct", 400),
        # two sizes: which one is the total cannot be told
        ("TinyLlama-1.1B-step-50K-105b", "tinyllama-step-50k", None),
        # the words that stand for sizes in Phi do so nowhere else
        ("Mistral-small-128k", None, None),
        # the same weights elsewhere, or with fewer bits
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-instruct", 8),
        ("together_ai__meta-llama__Meta-Llama-3.1-70B-Instruct-Turbo", "llama-3.1-instruct", 70),
        ("Llama-3.1-405B-Inst@sambanova", "llama-3.1-instruct", 405),
        ("@cf/meta/llama-3-8b-instruct", "llama-3-instruct", 8),
        ("meta-llama/llama-3.1-8b-instruct:free", "llama-3.1-instruct", 8),
        ("Qwen2.5-7B-Instruct-AWQ", "qwen2.5-instruct", 7),
        ("Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-instruct", 7),
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "qwen2.5-instruct", 7),
        ("qwen2.5:7b-instruct-q4_K_M", "qwen2.5-instruct", 7),
        ("Llama-2-7b-chat-hf-4bit", "llama-2-chat", 7),
        ("Llama-3.1-Tulu-3-405B-FP8-Dynamic", "llama-3.1-tulu-3", 405),
        # a fine-tune stays out of the family that it was made from
        ("AXCXEPT__Llama-3.1-8B-EZO-1.1-it", "llama-3.1-ezo-1.1-it", 8),
        ("llama-3-youko-8b", "llama-3-youko", 8),
        ("DeepSeek-R1-Distill-Llama-8B", "deepseek-r1-distill-llama", 8),
        # nothing about size: nothing is known
        ("gpt-4o-2024-08-06", None, None),
        ("gpt-4o-mini-2024-07-18", None, None),
        ("gpt-4-0613", None, None),
        ("claude-3-5-sonnet-20241022", None, None),
        ("gemini-1.5-pro", None, None),
        ("phi-4", None, None),
        ("7B", None, 7),
        ("zero-0b", "zero", None),
        ("", None, None),
        ("模型-7b", "模型", 7),
        ("model-\u0667b", None, None),
    ],
)
def test_names(name: str, family: str | None, size_b: float | None) -> None:
    assert read_name(name) == (family, size_b)


def test_base_and_instruct_models_are_two_families() -> None:
    assert read_name("Meta-Llama-3-8B")[0] == "llama-3"
    assert read_name("Meta-Llama-3-8B-Instruct")[0] == "llama-3-instruct"


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_any_text_is_read_without_inventing(name: str) -> None:
    family, size_b = read_name(name)
    assert family is None or family
    assert size_b is None or 0 < size_b < 10_000
    if size_b is not None:
        assert any(mark.isdigit() for mark in name)


@given(
    st.sampled_from(["oak", "Llama-3", "Qwen2.5", "foo-1124"]),
    st.sampled_from(["", "-Instruct", "-chat-v2"]),
    st.lists(st.integers(1, 999), min_size=2, max_size=4, unique=True),
)
@settings(max_examples=50)
def test_one_series_is_one_family(stem: str, tail: str, sizes: list[int]) -> None:
    read = [read_name(f"{stem}-{size}B{tail}") for size in sizes]
    assert len({family for family, _ in read}) == 1
    assert [size for _, size in read] == sizes


@pytest.mark.real
@pytest.mark.parametrize(("pool", "least"), [("shaberi", 86), ("zeroeval", 22), ("wildbench", 9)])
def test_agreement_with_maps_made_by_hand(data: Path, pool: str, least: int) -> None:
    """Sizes differ only by rounding or where the name states another nominal figure; none is invented."""
    by_hand = json.loads((data / f"{pool}.models.json").read_text(encoding="utf-8"))
    read = {name: read_name(name)[1] for name in by_hand}
    sizes = {name: entry["size_b"] for name, entry in by_hand.items()}
    assert sum(size is not None and size == sizes[name] for name, size in read.items()) >= least
    assert [name for name, size in read.items() if size is not None and sizes[name] is None] == []
    off = {name: size for name, size in read.items() if size is not None and abs(size - sizes[name]) > 1.5}
    assert off == {}
