"""What was asked: chat messages, the text of every instruction, and the messages that stand before each answer.

The rows of an id repeat its messages. Where every model led a conversation of its own, the assistant's turns among
them differ from model to model: those belong to the answers, and the instruction is what all were asked.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from crowdselect.errors import InputError
from crowdselect.pool.batches import AnswerBatch, Cells, Numbers
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.columns import blank, repaired, without_turns
from crowdselect.pool.content import Repairs, written
from crowdselect.pool.index import Index, one_per_id, values_per_id
from crowdselect.pool.looking import look_into
from crowdselect.pool.rendered import messages_in, with_markers
from crowdselect.pool.source import Source
from crowdselect.pool.tall import TallAnswers
from crowdselect.pool.views import View
from crowdselect.pool.wide import WideAnswers
from crowdselect.types import BoolArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa


Chat = list[dict[str, Any]]
"""Messages, each {"role": ..., "content": ...}; with calls of tools the content may be None, see `content.Turn`."""

_KEPT = ("tool_calls", "tool_call_id", "name")


def parse_chat(written: str) -> Chat:
    """Read the messages of an instruction; what else a message holds is left out, but for calls of tools.

    Args:
        written: JSON, a list of {role, content}; null is no messages.

    Raises:
        ValueError: It is not that.

    Example:
        >>> parse_chat('[{"role": "user", "content": "Hi", "name": null}]')
        [{'role': 'user', 'content': 'Hi'}]
    """
    try:
        turns = json.loads(written)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if turns is None:
        return []
    if not isinstance(turns, list):
        raise ValueError("not a list")  # noqa: TRY004  (one kind of error for whatever the text is)
    return [parse_turn(turn) for turn in turns]


def user_turn(text: str) -> Chat:
    """Make an instruction a chat of one message."""
    return [{"role": "user", "content": text}]


def chat_text(chat: Chat) -> str | None:
    """Write messages as one text: a lone user turn is its content, others are `role: content` blocks.

    Returns:
        The text; None where there is none.

    Example:
        >>> chat_text(user_turn("Hi"))
        'Hi'
        >>> print(chat_text([{"role": "system", "content": "Be brief."}, *user_turn("Hi")]))
        system: Be brief.
        <BLANKLINE>
        user: Hi
    """
    if len(chat) == 1 and chat[0]["role"] == "user":
        text = chat[0]["content"]
    else:
        text = "\n\n".join(f"{turn['role']}: {_text_of(turn)}" for turn in chat)
    return text if text.strip() else None


def _text_of(turn: dict[str, Any]) -> str:
    """What a turn says; where it says nothing but calls tools, the calls."""
    if turn["content"]:
        return str(turn["content"])
    return json.dumps(turn["tool_calls"], ensure_ascii=False) if "tool_calls" in turn else ""


def parse_turn(turn: Any) -> dict[str, Any]:  # noqa: ANN401  (parsed JSON)
    """Read one message; see `parse_chat`.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(turn, dict):
        raise ValueError("not an object")  # noqa: TRY004  (as above)
    role, content = turn.get("role"), turn.get("content")
    calls = isinstance(turn.get("tool_calls"), list) and content is None
    if not isinstance(role, str) or not (isinstance(content, str) or calls):
        raise ValueError("role or content is not a text")
    text = Repairs()(content) if isinstance(content, str) else None
    return {"role": role, "content": text, **{name: turn[name] for name in _KEPT if turn.get(name)}}


def tool_names(chat: Chat, tools: str | None) -> set[str]:
    """Name the functions that messages call, and those that may be called: what a chat template has to write.

    Args:
        chat: The messages.
        tools: Those that may be called, as JSON; None = there are none.

    Example:
        >>> tool_names([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}], None)
        {'f'}
    """
    listed = json.loads(tools) if tools is not None else []
    found = [*(listed if isinstance(listed, list) else []), *_calls(chat)]
    inner = [each.get("function", each) for each in found if isinstance(each, dict)]
    return {str(each["name"]) for each in inner if isinstance(each, dict) and each.get("name")}


def for_template(chat: Chat) -> Chat:
    """Give messages as chat templates read them: the arguments of a call as an object, where they are written as JSON.

    Example:
        >>> for_template([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}])
        [{'role': 'assistant', 'content': None, 'tool_calls': [{'function': {'name': 'f', 'arguments': {}}}]}]
    """
    return [
        {**turn, "tool_calls": [_with_object(call) for call in turn["tool_calls"]]}
        if "tool_calls" in turn
        else turn
        for turn in chat
    ]


def _calls(chat: Chat) -> list[Any]:
    return [call for turn in chat for call in turn.get("tool_calls", ())]


def _with_object(call: Any) -> Any:  # noqa: ANN401  (parsed JSON)
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    return {**call, "function": {**function, "arguments": written(function.get("arguments"))}}


class PoolPrompts:
    """The instructions of a pool; their texts are read when they are asked for."""

    def __init__(self, source: Source, view: View, index: Index) -> None:
        self._source = source
        self._view = view
        self._index = index
        self.notes: list[str] = []
        """What was found in the texts, one line each."""

    @property
    def text(self) -> "pa.Array | None":
        """Shape (N,), null where there is none; None where the pool has no place for text."""
        return self._texts[0]

    @property
    def forms(self) -> IntArray:
        """Shape (N,): what each prompt was found to be, a place in `crowdselect.pool.rendered.FORMS`."""
        return self._texts[1]

    @cached_property
    def _instruction(self) -> "pa.Array | None":
        """The texts as the files have them, as `text`; not those of messages."""
        own = self._view.text
        if own is None:
            return None
        if look_into(self._source, own)[0].broken:
            own = repaired(own)
            self.notes.append("some instructions hold control characters, now U+FFFD")
        given = f"CASE WHEN NOT {blank(own)} THEN {own} END"
        return one_per_id(self._source, self._view, self._index, given, what="instruction", asked=True)

    @cached_property
    def _texts(self) -> "tuple[pa.Array | None, IntArray]":
        """The texts, those of rendered prompts as their messages have them, and what was found; both (N,)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text, forms = self._instruction, np.zeros(len(self._index.ids), dtype=np.int64)

        def said(row: int) -> str | None:
            chat, forms[row] = self._shared(row)
            return chat_text(chat)

        if text is not None and self._messages is None:
            marked = with_markers(text)
            if marked.any():
                read = [said(row) for row in np.flatnonzero(marked).tolist()]
                text = pc.replace_with_mask(text, pa.array(marked), pa.array(read, type=text.type))
        if self._messages is not None:
            chats = pa.array([said(row) for row in range(len(forms))], type=pa.large_string())
            if text is not None:  # that of a row with both, unless its messages were read otherwise
                chats = pc.if_else(pc.or_(text.is_null(), pa.array(forms > 0)), chats, text)
            text = chats
        return text, forms

    def load(self) -> None:
        """Read all that `prompts_of` needs, so that nothing is read while answers are streamed."""
        _ = self.text

    @property
    def history(self) -> str | None:
        """SQL of the messages, where those of some id differ in the turns of the assistant or the system; else None."""
        return self._view.messages if self._differs.any() else None

    @property
    def told_by(self) -> str | None:
        """SQL of what tells prompts of an id apart, where they differ: the messages but the system's, which an answer may have of its own."""
        return None if self.history is None else without_turns(self.history, "system")

    def prompts(
        self, cells: Cells, answers: WideAnswers | TallAnswers, samples: Numbers | None = None
    ) -> list[Chat]:
        """Give the messages before some answers; of several samples, before the one that is read."""
        own = [place for place, (row, _) in enumerate(cells) if self._differs[row]]
        written: list[str | None] = [None] * len(cells)
        if own and self.history is not None and isinstance(answers, TallAnswers):
            numbers = None if samples is None else [samples[place] for place in own]
            found = answers.beside(self.history, [cells[place] for place in own], numbers)
            for place, text in zip(own, found, strict=True):
                written[place] = text
        return [
            self._prompt(row, answers.models[model], text)
            for (row, model), text in zip(cells, written, strict=True)
        ]

    def prompts_of(self, batch: AnswerBatch, models: Sequence[str]) -> list[Chat]:
        """Give the messages before each answer of a batch."""
        written = batch.beside or [None] * len(batch.texts)
        return [
            self._prompt(int(row), models[model], text)
            for row, model, text in zip(batch.rows, batch.models, written, strict=True)
        ]

    def codes(self, answers: WideAnswers | TallAnswers) -> IntArray | None:
        """Number the prompts: see `Pool.prompt_codes`."""
        history = self.told_by
        if history is None or not isinstance(answers, TallAnswers):
            return None
        codes = answers.codes(history)
        return self.told_apart(codes, np.arange(len(codes))[:, None])

    def told_apart(self, codes: IntArray, rows: IntArray) -> IntArray:
        """Give answers to the same messages the same number; `rows` are their instructions. Nulls are no difference, and texts may differ."""
        return np.where(~self._differs[rows] & (codes >= 0), 0, codes)

    def of_rows(self, rows: Sequence[int]) -> list[Chat]:
        """Give what all models were asked in some instructions."""
        return [self._shared(row)[0] for row in rows]

    @cached_property
    def _read(self) -> "tuple[pa.Array | None, BoolArray]":
        """JSON text of what all models were asked, and where the models' own turns differ; both (N,)."""
        import pyarrow.compute as pc

        sql = self._view.messages
        if sql is None:
            return None, np.zeros(len(self._index.ids), dtype=np.bool_)
        whole, other = values_per_id(self._source, self._view, self._index, sql)
        differs = to_numpy(other.is_valid())
        if not differs.any():
            return whole, differs
        asked, differ = values_per_id(self._source, self._view, self._index, without_turns(sql, "assistant"))
        if differ.null_count < len(differ):  # each model had a system prompt of its own
            asked = one_per_id(
                self._source,
                self._view,
                self._index,
                without_turns(sql, "assistant", "system"),
                what="messages (but the assistant's)",
                asked=True,
            )
        return pc.if_else(other.is_valid(), asked, whole), differs

    @property
    def _messages(self) -> "pa.Array | None":
        return self._read[0]

    @property
    def _differs(self) -> BoolArray:
        return self._read[1]

    def _shared(self, i: int) -> tuple[Chat, int]:
        """Parse what all models were asked, nothing where it is missing; and what it was found to be."""
        chat = self._chat(i, None if self._messages is None else self._messages[i].as_py())
        text = None if chat or self._instruction is None else self._instruction[i].as_py()
        return messages_in(chat if text is None else user_turn(text))

    def _prompt(self, i: int, model: str, written: str | None) -> Chat:
        if not self._differs[i]:
            return self._shared(i)[0]
        chat = self._chat(i, written)
        if not chat and self._view.left_out is None:  # else it is one of those that cannot be chosen
            raise InputError(
                f"{self._source.path}: messages of id {self._index.id(i)!r}, model {model!r} are missing, and "
                "other models have theirs with own answers; wanted the conversation before the answer"
            )
        return messages_in(chat)[0]

    def _chat(self, i: int, written: str | None) -> Chat:
        if written is None or not written.strip():
            return []
        try:
            return parse_chat(written)
        except ValueError as error:
            raise InputError(
                f"{self._source.path}: messages of id {self._index.id(i)!r} are {written[:80]!r}; "
                "wanted a list of {role, content}, both texts"
            ) from error
