"""One chosen row as one training record: the formats, each with how it is written and the columns that it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from crowdselect.pool.content import calls_as_json

if TYPE_CHECKING:
    import pyarrow as pa

Messages = list[dict[str, Any]]
Record = dict[str, Any]
Column = Literal["text", "turn", "turns", "marked turns", "sharegpt turns", "pairs of texts"]
"""What a column holds; a turn is one message; marked, it says whether it is trained on."""
RL = "rl"
"""The format of prompts without answers, for reinforcement learning: see `crowdselect.selection.rl`."""

TRAINED = "train"
"""The field of a message that says whether it is trained on, where a trainer reads one."""

IN_TURNS = ("sharegpt", "alpaca")
"""Formats whose turns are the user's and the assistant's by turns, without tools but where a trainer has a form for them."""

_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


@dataclass(frozen=True, slots=True)
class Form:
    """How a chosen row is written."""

    make: Callable[[Messages, str, str | None], Record]
    """(prompt, answer, rejected answer) → the record without its id."""
    columns: Mapping[str, Column]
    """The record's columns besides `id`, in order."""
    tools: bool = True
    """Whether who reads it heeds a column `tools` beside these."""

    def schema(self) -> "pa.Schema":
        """Build the schema of a Parquet file of records, the same whatever the records hold.

        Example:
            >>> FORMATS["prompt-completion"].schema().names
            ['id', 'prompt', 'completion']
        """
        import pyarrow as pa

        text = pa.string()
        turn = pa.struct({"role": text, "content": text})
        types: Mapping[Column, pa.DataType] = {
            "text": text,
            "turn": turn,
            "turns": pa.list_(turn),
            "marked turns": pa.list_(pa.struct({"role": text, "content": text, TRAINED: pa.bool_()})),
            "sharegpt turns": pa.list_(pa.struct({"from": text, "value": text})),
            "pairs of texts": pa.list_(pa.list_(text)),
        }
        return pa.schema({"id": text, **{name: types[kind] for name, kind in self.columns.items()}})


def _assistant(answer: str | None) -> dict[str, str]:
    return {"role": "assistant", "content": answer or ""}


def _messages(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001  (one form for all)
    return {"messages": [*prompt, _assistant(answer)]}


def _marked(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    """Every turn says whether it is trained on: a field that only some have breaks readers of JSON that go by blocks."""
    return {
        "messages": [*({**turn, TRAINED: False} for turn in prompt), {**_assistant(answer), TRAINED: True}]
    }


def _prompt_completion(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    return {"prompt": prompt, "completion": [_assistant(answer)]}


def _sharegpt(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    turns = [message for message in [*prompt, _assistant(answer)] if message["role"] != "system"]
    return {
        "conversations": [
            {"from": _SHAREGPT_ROLES.get(m["role"], m["role"]), "value": m["content"]} for m in turns
        ],
        "system": _system(prompt),
    }


def _alpaca(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    turns = [message["content"] for message in prompt if message["role"] != "system"]
    return {
        "instruction": turns[-1],
        "input": "",
        "output": answer,
        "system": _system(prompt),
        "history": [list(pair) for pair in zip(turns[:-1:2], turns[1::2], strict=False)],
    }


def _pair(prompt: Messages, answer: str, rejected: str | None) -> Record:
    return {"prompt": prompt, "chosen": [_assistant(answer)], "rejected": [_assistant(rejected)]}


def _pair_of_messages(prompt: Messages, answer: str, rejected: str | None) -> Record:
    return {"prompt": prompt, "chosen": _assistant(answer), "rejected": _assistant(rejected)}


def _pair_of_conversations(prompt: Messages, answer: str, rejected: str | None) -> Record:
    return {"chosen": [*prompt, _assistant(answer)], "rejected": [*prompt, _assistant(rejected)]}


def _rejected_beside_messages(prompt: Messages, answer: str, rejected: str | None) -> Record:
    return {"messages": [*prompt, _assistant(answer)], "rejected_response": rejected or ""}


def _with_tools(form: Form) -> Form:
    """The form as LLaMA-Factory reads tools in it: each call and each result a turn of its own, all of texts."""

    def make(prompt: Messages, answer: str, rejected: str | None) -> Record:
        return form.make([_tagged(turn) for turn in prompt], answer, rejected)

    return Form(make, {**form.columns, "tools": "text"})


def _tagged(turn: dict[str, Any]) -> dict[str, Any]:
    if turn.get("tool_calls"):
        return {"role": "function_call", "content": calls_as_json(turn["tool_calls"])}
    return {"role": "observation", "content": turn["content"]} if turn["role"] == "tool" else turn


def _prompt(prompt: Messages, answer: str, rejected: str | None) -> Record:  # noqa: ARG001
    return {"prompt": prompt}


def _system(prompt: Messages) -> str:
    return "\n\n".join(message["content"] for message in prompt if message["role"] == "system")


FORMATS: dict[str, Form] = {
    "messages": Form(_messages, {"messages": "turns"}),
    "prompt-completion": Form(_prompt_completion, {"prompt": "turns", "completion": "turns"}),
    "sharegpt": Form(_sharegpt, {"conversations": "sharegpt turns", "system": "text"}),
    "alpaca": Form(
        _alpaca,
        {
            "instruction": "text",
            "input": "text",
            "output": "text",
            "system": "text",
            "history": "pairs of texts",
        },
    ),
    "dpo": Form(_pair, {"prompt": "turns", "chosen": "turns", "rejected": "turns"}),
    RL: Form(_prompt, {"prompt": "turns"}, tools=False),
}
"""The formats by name, as they are written where a trainer has no form of its own."""

_PAIR_OF_MESSAGES = Form(_pair_of_messages, {"prompt": "turns", "chosen": "turn", "rejected": "turn"})
TAGGED = {
    name: _with_tools(form)
    for name, form in {
        "messages": FORMATS["messages"],
        "sharegpt": FORMATS["sharegpt"],
        "dpo": _PAIR_OF_MESSAGES,
    }.items()
}
"""Formats with turns of `function_call` and `observation`, and `tools` as a text, empty where there are none; in `dpo` one
message, not a list of one, as chosen and rejected."""
MARKED = Form(_marked, {"messages": "marked turns"})
"""`messages` of which each says whether it is trained on: the answer alone is."""
PAIR_OF_CONVERSATIONS = Form(_pair_of_conversations, {"chosen": "turns", "rejected": "turns"}, tools=False)
"""`dpo` as two whole conversations that differ in the last message."""
REJECTED_BESIDE_MESSAGES = Form(_rejected_beside_messages, {"messages": "turns", "rejected_response": "text"})
"""`dpo` as a conversation that ends with the chosen answer, and the text of the rejected one."""


def has_earlier_answer(made: Record) -> bool:
    """Say whether a record of `messages` has an answer of the assistant before the last message.

    Example:
        >>> has_earlier_answer({"messages": [{"role": "user"}, {"role": "assistant"}]})
        False
    """
    return any(turn["role"] == "assistant" for turn in made.get("messages", ())[:-1])
