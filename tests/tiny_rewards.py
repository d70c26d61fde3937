"""Tiny reward models in the hub's format, of Llama, Gemma 2 and BERT shapes, loaded by the same code as real ones."""

from pathlib import Path

from tiny_models import build_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' and no_system is defined %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
)
SHAPES = ("llama", "gemma", "bert")
GOOD = [
    "the capital of France is Paris",
    "sunlight scatters blue waves far more",
    "a clear and complete answer",
]
BAD = ["bananas bananas go away", "fish fish fish no", "I do not care at all"]


def build_reward(
    folder: Path,
    shape: str = "llama",
    *,
    seed: int = 0,
    outputs: int = 1,
    hidden: int = 32,
    layers: int = 2,
    context: int = 512,
    template: str | None = TEMPLATE,
    side: str = "left",
    knows_padding: bool = True,
    train: int = 0,
) -> Path:
    """Save a sequence classifier with its tokenizer; `train` steps make it prefer good answers."""
    import torch

    tokenizer = reward_tokenizer(shape, template=template, context=context, side=side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(shape, tokenizer, outputs=outputs, hidden=hidden, layers=layers, context=context)
        if not knows_padding:
            model.config.pad_token_id = None
        if train:
            _train(model, tokenizer, steps=train)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def reward_tokenizer(shape: str, *, template: str | None, context: int = 512, side: str = "left"):
    """A tokenizer that adds its special tokens itself, so that a template's would be doubled."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_tokenizer()
    begin, end = ("<|cls|>", "<|sep|>") if shape == "bert" else ("<|bos|>", None)
    names = {"cls_token": begin, "sep_token": end} if shape == "bert" else {"bos_token": begin}
    tokenizer.add_special_tokens(names)
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in (begin, end) if name is not None]
    close = f" {end}" if end else ""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A{close}",
        pair=f"{begin} $A{close} $B:1{close}" + (":1" if end else ""),
        special_tokens=ids,
    )
    tokenizer.chat_template = (
        template if shape != "bert" or template is None else template.replace("{{ bos_token }}", "")
    )
    tokenizer.model_max_length = context
    tokenizer.padding_side = side
    if shape == "bert":
        names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _model(shape: str, tokenizer, *, outputs: int, hidden: int, layers: int, context: int):
    import transformers

    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.2,
        "num_labels": outputs,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if shape == "bert":
        return transformers.BertForSequenceClassification(transformers.BertConfig(**shared))
    causal = shared | {
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    if shape == "gemma":
        config = transformers.Gemma2Config(**causal, head_dim=hidden // 2, sliding_window=64)
        return transformers.Gemma2ForSequenceClassification(config)
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**causal))


def _train(model, tokenizer, *, steps: int) -> None:
    """Teach it to score good answers above bad ones, in pairs, as reward models are trained."""
    import torch

    from crowdselect.reward.scoring import PAIRS

    pairs = [(q, good, bad) for q, good, bad in PAIRS] + [
        (q, g, b) for q, *_ in PAIRS for g, b in zip(GOOD, BAD, strict=True)
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(steps):
        question, *answers = pairs[step % len(pairs)]
        chats = [
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            for answer in answers
        ]
        rows = [
            tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)[
                "input_ids"
            ]
            for chat in chats
        ]
        good, bad = (model(input_ids=torch.tensor([row])).logits.reshape(()) for row in rows)
        loss = -torch.nn.functional.logsigmoid(good - bad)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
