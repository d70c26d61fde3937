"""Tiny models of random weights, built in the test and saved in the hub's format: nothing is downloaded.

A model has the shape of Llama, two layers and a byte-level BPE tokenizer trained on a few sentences. What it
writes is noise, but every step from a chat to an answer is the real one.
"""

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TOOLS_TEMPLATE = (
    "{% if tools %}<|system|>\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% for call in message.tool_calls or [] %}"
    "{{ call.function.name }}({{ call.function.arguments.items() | list }}){% endfor %}"
    "{{ message['content'] or '' }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A template that writes calls of tools, with what each is given."""
_SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_SENTENCES = [
    "Write a short poem about the sea and the people who live beside it.",
    "Explain why the sky is blue in two sentences, then give an example.",
    "How many days are in a leap year? Answer with a number only.",
    "Translate the following sentence into French: the river is long and slow.",
    "List three uses of copper, and say which of them is the oldest.",
]


def build_model(folder: Path, *, seed: int = 0, hidden: int = 32, context: int = 512) -> Path:
    """Save a causal language model with its tokenizer; another seed is another model."""
    from transformers import LlamaForCausalLM

    return _save(folder, LlamaForCausalLM, seed=seed, hidden=hidden, context=context)


def build_reward_model(folder: Path, *, seed: int = 0, hidden: int = 32, context: int = 512) -> Path:
    """Save a sequence classifier with one output, the usual form of a reward model."""
    from transformers import LlamaForSequenceClassification

    return _save(folder, LlamaForSequenceClassification, seed=seed, hidden=hidden, context=context)


def build_tokenizer():
    """A fast tokenizer with a chat template, trained on a few sentences; every byte has a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=_SPECIAL[2:],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=512,
    )


def _save(folder: Path, kind: type, *, seed: int, hidden: int, context: int) -> Path:
    import torch
    from transformers import LlamaConfig

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,  # wide enough that answers to different prompts differ
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
