"""Request and response formats of served reward models: vLLM, SGLang and text-embeddings-inference.

Sources (read in 2026):

- vLLM, `vllm/entrypoints/pooling/{base,classify,pooling,scoring}/protocol.py` and the pages "Pooling Models" and
  "Classification Usages" of docs.vllm.ai. `use_activation` is on by default "in most cases": it squeezes a reward
  into 0 to 1 (or, with one class and a softmax, makes every reward 1). Older servers call it `activation`; both are
  sent, and a server ignores a field that it does not know.
- SGLang, `python/sglang/srt/entrypoints/http_server.py` and its page on reward models: its native `/classify` takes texts
  as they are, so the chat template is applied here. Its `/v1/classify` is a softmax over the labels, which for a reward
  model is 1 whatever the answer.
- text-embeddings-inference, `docs/openapi.json`: `/predict` with `raw_scores`, which is off by default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from crowdselect._optional import optional
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError, InputError
from crowdselect.pool.prompts import Chat, chat_text
from crowdselect.reward.loading import Card, LocalOptions, one_line
from crowdselect.reward.local import encode
from crowdselect.reward.protocol import Item

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A conversation as it is sent.

    Attributes:
        messages: The conversation.
        ids: Its tokens, templated and truncated by the client; None = the server does both.
        text: The tokens as text, without a BOS that the server adds itself.
        truncated: Whether the client truncated it.
        reason: Why it cannot be tokenized; None if it can.
    """

    messages: Chat
    ids: list[int] | None = None
    text: str | None = None
    truncated: bool = False
    reason: str | None = None

    @property
    def pair(self) -> list[str]:
        """Question and answer separately, as cross-encoders expect."""
        return [chat_text(self.messages[:-1]) or "", self.messages[-1]["content"]]


@dataclass(frozen=True, slots=True)
class Api:
    """One API: the end of its URL, its request body, and how numbers are read from its answer."""

    path: str
    body: Callable[[Sequence[Written], int | None], Body]
    numbers: Callable[[Any], list[list[float]]]
    whole: Callable[[Sequence[Written]], bool]
    """Whether several conversations may be sent in one request."""


class SeveralNumbersError(CallError):
    """The model has several outputs: none of them is known to be the reward."""

    def __init__(self, path: str, count: int) -> None:
        super().__init__(
            f"{path} gives {count} numbers for one conversation; wanted one: a model with one output, pooled over the "
            "whole conversation and not per token",
            verdict="stop",
        )


def rewards(api: Api, answer: object, count: int, *, known: Redactor | None = None) -> list[float]:
    """Read one number per conversation.

    Args:
        api: The API that was used.
        answer: Parsed JSON.
        count: Number of conversations sent.
        known: Removes keys from messages; None = there are none.

    Raises:
        CallError: The answer has another shape, or several numbers for one conversation.

    Example:
        >>> rewards(APIS["predict"], [[{"label": "LABEL_0", "score": -1.5}]], 1)
        [-1.5]
    """
    try:
        found = api.numbers(answer)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        shown = (known or Redactor({})).brief(repr(answer), 120)
        raise CallError(f"the answer is not that of {api.path}: {shown}", verdict="stop") from error
    if len(found) != count:
        raise CallError(f"{api.path} gives {len(found)} answers for {count} conversations", verdict="stop")
    most = max(map(len, found))
    if most != 1:
        raise SeveralNumbersError(api.path, most)
    return [row[0] for row in found]


def _conversation(some: Sequence[Written], most: int | None) -> Body:
    """Return a body with tokens, or with a chat that the server tokenizes."""
    raw: Body = {"use_activation": False, "activation": False}
    if some[0].ids is not None:
        return {**raw, "input": [one.ids for one in some], "add_special_tokens": False}
    chat: Body = {"messages": some[0].messages, "add_generation_prompt": False, "add_special_tokens": False}
    return raw | chat | ({} if most is None else {"truncate_prompt_tokens": most})


def _pairs(some: Sequence[Written], most: int | None) -> Body:
    questions, answers = zip(*(one.pair for one in some), strict=True)
    raw: Body = {"use_activation": False, "activation": False}
    cut: Body = {} if most is None else {"truncate_prompt_tokens": most}
    return {**raw, **cut, "text_1": list(questions), "text_2": list(answers)}


def _predict(some: Sequence[Written], _most: int | None) -> Body:
    inputs = [one.pair if one.text is None else [one.text] for one in some]
    return {"inputs": inputs, "raw_scores": True, "truncate": True}


def _texts(some: Sequence[Written], _most: int | None) -> Body:
    return {"text": [one.text for one in some]}


def _data(answer: Any, read: Callable[[Mapping[str, Any]], list[Any]]) -> list[list[float]]:  # noqa: ANN401  (parsed JSON)
    rows = sorted(answer["data"], key=lambda row: row["index"])
    if [row["index"] for row in rows] != list(range(len(rows))):
        raise ValueError("index")
    return [[_number(value) for value in read(row)] for row in rows]


def _flat(values: Any) -> list[Any]:  # noqa: ANN401  (parsed JSON)
    return [inner for value in values for inner in (_flat(value) if isinstance(value, list) else [value])]


def _number(value: Any) -> float:  # noqa: ANN401  (parsed JSON)
    """Read a number; null becomes NaN, which JSON cannot express."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise TypeError(value)
    return float("nan") if value is None else float(value)


APIS: dict[str, Api] = {
    "classify": Api(
        "/classify",
        _conversation,
        lambda answer: _data(answer, lambda row: row["probs"]),
        lambda some: some[0].ids is not None,
    ),
    "sglang": Api(
        "/classify",
        _texts,
        lambda answer: [[_number(value) for value in row["embedding"]] for row in answer],
        lambda _: True,
    ),
    "pooling": Api(
        "/pooling",
        _conversation,
        lambda answer: _data(answer, lambda row: _flat(row["data"])),
        lambda some: some[0].ids is not None,
    ),
    "score": Api("/score", _pairs, lambda answer: _data(answer, lambda row: [row["score"]]), lambda _: True),
    "predict": Api(
        "/predict",
        _predict,
        lambda answer: [[_number(label["score"]) for label in row] for row in answer],
        lambda _: True,
    ),
}
"""The APIs by name: the last part of their path, for SGLang's own the server's name."""


class Writer:
    """Tokenizes conversations with the served model's tokenizer.

    Args:
        name: The tokenizer's name or folder.
        max_length: Maximum tokens; None = the tokenizer's limit.
    """

    def __init__(self, name: str, *, max_length: int | None) -> None:
        transformers = optional("transformers", extra="reward")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"`tokenizer` {name}: cannot be loaded: {one_line(error)}") from error
        if not tokenizer.chat_template:
            raise InputError(
                f"`tokenizer` {name}: has no chat template, so how a conversation is written is unknown"
            )
        limit = tokenizer.model_max_length if tokenizer.model_max_length < 1_000_000_000 else None
        options = LocalOptions(max_length=max_length or limit, truncation_side=tokenizer.truncation_side)
        self._card = Card(SimpleNamespace(), tokenizer, options, "")
        bos = tokenizer.bos_token
        self._own = (
            bos if bos is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else None
        )

    def write(self, items: Sequence[Item]) -> list[Written]:
        """Return each conversation as tokens and as text; the text has no BOS if the server's tokenizer adds one."""
        written = []
        for item, encoded in zip(items, encode(items, self._card), strict=True):
            text = None if encoded.ids is None else self._card.tokenizer.decode(encoded.ids)
            if text is not None and self._own is not None:
                text = text.removeprefix(self._own)
            written.append(Written(item.messages, encoded.ids, text, encoded.truncated, encoded.reason))
        return written
