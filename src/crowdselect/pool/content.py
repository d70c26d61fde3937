"""What a row says, decided in one place: its whole prompt, and what a value is as text.

A value may be a text, a list of parts, a message or nothing, in prompts and answers, in every layout. What is asked
of a model, compared, embedded, scored and exported is what `prompt_of` makes of a row; where that is a conversation that
a chat template was applied to, its messages (`rendered`).
"""

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crowdselect.finish import finish_in

Turn = dict[str, Any]
"""A message: `role` and `content`, and for tools `tool_calls`, `tool_call_id`, `name` and a content that may be None."""

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "question"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt", "bing", "bard", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    "function_call": "assistant",
}
"""Names of roles that the field's files use, and what each is here."""

TIDY_ROLES = "(system,)?user(,assistant,user)*"
"""A pattern of the roles of a conversation that every format holds, joined by commas."""

_TEXT_PARTS = {"text", "input_text", "output_text"}
_THOUGHT_PARTS = {"thinking", "reasoning", "reasoning_text", "summary_text"}
_KEPT = ("tool_calls", "tool_call_id", "name")  # of a message, beside role and content
_BROKEN = re.compile("[\ud800-\udfff\x00-\x08\x0e-\x1f]")
_REPAIRED = "\ufffd"
_SPELT_TURN = re.compile(r"""(["'])(?:role|from)\1""")


class NotTextError(ValueError):
    """A value holds something that is no text: an image, a sound, an object of no known form."""


class TurnsError(ValueError):
    """Messages are not turns that an answer may follow."""


@dataclass(slots=True)
class Repairs:
    """How many texts were repaired, and how many chat markers were seen."""

    texts: int = 0

    def __call__(self, text: str) -> str:
        r"""Put U+FFFD where halves of surrogate pairs and control characters stand, which files and servers refuse.

        Example:
            >>> Repairs()("caf\ud83d")
            'caf�'
        """
        if _BROKEN.search(text) is None:
            return text
        self.texts += 1
        return _BROKEN.sub(_REPAIRED, text)


@dataclass(frozen=True, slots=True)
class Said:
    """A value as text."""

    text: str | None
    """None where there is none."""
    reasoning: str | None = None
    """What was thought before it, where that stands apart."""
    calls: bool = False
    """It is a call of tools, perhaps beside the text."""
    finish_reason: Any = None
    """How it ended, where the object says so that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a row asks."""

    instruction: str | None = None
    """A plain text; None where it is a conversation."""
    messages: Sequence[Turn] | None = None
    """A conversation, up to the turn that is to be answered."""
    last: Said | None = None
    """The assistant's turn that the row's own messages ended with, which is no part of the prompt."""
    needs: tuple[str, ...] = ()
    """What an export has to hold: `turns` that do not alternate, `tools`."""
    problem: str | None = None
    """Why it cannot be chosen: a code of `crowdselect.selection.eligible.REASONS`."""


def said(value: Any) -> Said:  # noqa: ANN401  (whatever a file holds)
    """Read a value as text.

    Args:
        value: A text, a number, a list of parts, a message, a part, or None.

    Raises:
        NotTextError: It holds anything else.

    Example:
        >>> said([{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}]).text
        'Hi you'
        >>> said({"role": "assistant", "content": "Hi", "reasoning_content": "Hm"})
        Said(text='Hi', reasoning='Hm', calls=False, finish_reason=None)
    """
    if value is None or isinstance(value, str):
        return Said(value)
    if isinstance(value, bool):
        return Said("true" if value else "false")
    if isinstance(value, int | float):
        return Said(None if value != value else str(value))  # noqa: PLR0124  (NaN)
    if isinstance(value, Mapping):
        found, finish = _object_said(value), finish_in(value)
        return found if finish in (None, "") else replace(found, finish_reason=finish)
    if isinstance(value, Sequence):
        return _parts_said(value)
    raise NotTextError(f"a {type(value).__name__}")


def _object_said(value: Mapping[str, Any]) -> Said:
    if isinstance(value.get("message"), Mapping):  # one of the choices that a server returns
        return said(value["message"])
    if "content" in value:
        inner = said(value["content"])
        thought = next(
            (value[name] for name in ("reasoning_content", "reasoning") if value.get(name)), inner.reasoning
        )
        calls = value.get("tool_calls") or value.get("function_call")
        return Said(inner.text, None if thought is None else said(thought).text, bool(calls))
    if set(value) == {"answer"}:  # as Arena-Hard's files have it
        return said(value["answer"])
    if value.get("type") in {None, *_TEXT_PARTS} and "text" in value:
        return said(value["text"])
    if "value" in value and "from" in value:
        turn = _turn(value) if _is_calling(value) else None
        return said(value["value"]) if turn is None else Said(turn["content"], calls="tool_calls" in turn)
    raise NotTextError(str(value.get("type") or "an object"))


def _parts_said(parts: Sequence[Any]) -> Said:
    texts: list[str] = []
    thoughts: list[str] = []
    calls, finish = False, None
    for part in parts:
        if isinstance(part, Mapping) and part.get("type") in _THOUGHT_PARTS:
            inner = part.get("thinking") or part.get("text") or part.get("reasoning") or part.get("summary")
            thoughts.append(said(inner).text or "")
            continue
        if isinstance(part, Mapping) and part.get("type") == "text" and part.get("text") is None:
            continue  # as Arrow fills up what other parts have
        found = said(part)
        texts.append(found.text or "")
        thoughts += [] if found.reasoning is None else [found.reasoning]
        calls |= found.calls
        finish = found.finish_reason or finish
    text, thought = "".join(texts) if texts else None, "\n\n".join(thoughts) if thoughts else None
    return Said(text, thought, calls, finish)


def written(value: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Parse a text that is a list or an object as JSON or Python writes it, as a cell of a CSV file has it; others stay.

    Example:
        >>> written('[{"role": "user", "content": "Hi"}]'), written("[sic]")
        ([{'role': 'user', 'content': 'Hi'}], '[sic]')
        >>> written("[{'role': 'user', 'content': None}]")
        [{'role': 'user', 'content': None}]
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    for parse in (json.loads, ast.literal_eval):  # of Python constants only: nothing in a text is run
        try:
            found = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list | dict) else value
    return value


def spelt_parts(value: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Parse a text that is the JSON of parts or of a message; any other JSON is an answer's own text.

    Example:
        >>> spelt_parts('[{"type": "text", "text": "Hi"}]'), spelt_parts('{"a": 1}')
        ([{'type': 'text', 'text': 'Hi'}], '{"a": 1}')
    """
    found = written(value)
    if isinstance(found, dict):
        return found if set(found) & {"content"} and set(found) & {"role"} else value
    parts = isinstance(found, list) and bool(found) and all(isinstance(part, dict) for part in found)
    return (
        found
        if parts and all({"type", "text"} & set(p) or {"role", "content"} <= set(p) for p in found)
        else value
    )


def turns_of(value: Any) -> list[Turn]:  # noqa: ANN401  (whatever a file holds)
    """Read a conversation.

    Args:
        value: A list of {role, content} or {from, value}, or the JSON of one; None is no turns.

    Returns:
        Its turns, with a content that is a text (None beside `tool_calls`), and nothing of them that is empty.

    Raises:
        TurnsError: It is no such list, or a role is unknown.
        NotTextError: A content is no text.

    Example:
        >>> turns_of([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}])
        [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    listed = written(value)
    if listed is None or listed == "":
        return []
    if isinstance(listed, Mapping) and ("role" in listed or "from" in listed):
        listed = [listed]
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise TurnsError(f"messages are {str(value)[:80]!r}; wanted a list of {{role, content}}")
    return [_turn(turn) for turn in listed]


def _turn(turn: Any) -> Turn:  # noqa: ANN401  (parsed JSON)
    if not isinstance(turn, Mapping):
        raise TurnsError(f"a message is {str(turn)[:80]!r}; wanted {{role, content}}")
    spoken = turn.get("role") or turn.get("from")
    role = ROLES.get(str(spoken).strip().lower())
    if role is None:
        said_role = f"{spoken!r} is no known role" if spoken else "a message has no role"
        raise TurnsError(f"messages: {said_role}; wanted one of user, assistant, system, tool")
    if not {"content", "value", *_KEPT} & set(turn):
        raise TurnsError(f"a message is {str(turn)[:80]!r}; wanted {{role, content}}")
    value = turn.get("content")
    value = turn.get("value") if value is None and "value" in turn else value
    kept = {name: turn[name] for name in _KEPT if turn.get(name)}
    if _is_calling(turn) and not kept.get("tool_calls"):
        value, calls = _spelt_calls(value)
        kept |= {"tool_calls": calls} if calls else {}
    found = said(value)
    call = turn.get("function_call")  # as it was called before tools
    if isinstance(call, Mapping) and "name" in call:
        kept["tool_calls"] = [{"type": "function", "function": call}]
    if not (isinstance(kept.get("tool_calls", []), list)):
        raise TurnsError("tool_calls is no list")
    return {"role": role, "content": found.text, **{name: _plain(inner) for name, inner in kept.items()}}


def _is_calling(turn: Mapping[str, Any]) -> bool:
    """Say whether a turn is ShareGPT's `function_call`, whose value is the JSON of calls."""
    return str(turn.get("role") or turn.get("from")).strip().lower() == "function_call"


def _spelt_calls(value: Any) -> tuple[Any, list[Turn]]:  # noqa: ANN401  (whatever a file holds)
    """Part the value of a `function_call` turn into what it says besides and its calls; a text in a model's own form stays.

    Example:
        >>> _spelt_calls('{"name": "f", "arguments": {"x": 1}}')
        (None, [{'type': 'function', 'function': {'name': 'f', 'arguments': '{"x": 1}'}}])
    """
    if value is None or value == "":
        return None, []
    thinks = isinstance(value, str) and value.lstrip().startswith("<think>")
    thought, rest = parted(value) if thinks else (None, value if isinstance(value, str) else _plain(value))
    found = written(rest)
    calls = [_function(call) for call in (found if isinstance(found, list) else [found])]
    named = [{"type": "function", "function": call} for call in calls if call is not None]
    if named and len(named) == len(calls):
        return with_reasoning(None, thought), named
    if isinstance(value, str) and "<tool_call>" in value:
        return value, []
    raise TurnsError(
        f"messages: a turn of function_call is {str(value)[:80]!r}; wanted a call as JSON, "
        '{"name": ..., "arguments": ...}, or a list of them'
    )


def calls_as_json(calls: Sequence[Any]) -> str:
    """Write the calls of a message as the value of a `function_call` turn: the JSON of one, or of a list of several.

    Example:
        >>> calls_as_json([{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}])
        '{"name": "f", "arguments": {"x": 1}}'
    """
    found = [
        {**call, "arguments": written(call["arguments"]) or {}} for call in map(_function, calls) if call
    ]
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False)


def _function(call: Any) -> Turn | None:  # noqa: ANN401  (parsed JSON)
    """The name of a call and its arguments as JSON; None where it is none."""
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(name, str) or not name:
        return None
    given = inner.get("arguments", {})
    return {
        "name": name,
        "arguments": given if isinstance(given, str) else json.dumps(given, ensure_ascii=False),
    }


def _plain(value: Any) -> Any:  # noqa: ANN401  (parsed JSON)
    """Leave out what is null in an object, as Arrow fills up what other rows have."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def prompt_of(
    *,
    instruction: Any = None,  # noqa: ANN401  (whatever a file holds)
    input: Any = None,  # noqa: A002, ANN401  (the column's name)
    system: Any = None,  # noqa: ANN401
    messages: Any = None,  # noqa: ANN401
    history: Any = None,  # noqa: ANN401
    tools: Any = None,  # noqa: ANN401
) -> Asked:
    r"""Say what a row asks: the one rule for sending, comparing, embedding, scoring and exporting it.

    Args:
        instruction: A text or parts; or a conversation.
        input: What the instruction is about: it follows on a new line.
        system: A system prompt, for a conversation that has none of its own.
        messages: A conversation, which may end with an assistant's turn.
        history: Pairs of what was said and answered before the instruction, as Alpaca's files may have them.
        tools: Tools that may be called.

    Returns:
        The prompt, or why there is none (`problem`).

    Raises:
        TurnsError: Messages are no list of messages, or history no list of pairs.

    Example:
        >>> prompt_of(instruction="Translate.", input="A cat").instruction
        'Translate.\nA cat'
        >>> prompt_of(instruction="Hi", system="Be brief.").messages
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    try:
        before = _turns_before(written(history))
        return _asked(instruction, input, said(system).text, messages, before, tools=bool(written(tools)))
    except NotTextError:
        return Asked(problem="not_text")


def _turns_before(history: Any) -> list[Turn]:  # noqa: ANN401  (whatever a file holds)
    """The turns of pairs of what was said and answered."""
    pairs = history or []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise TurnsError(f"history is {str(history)[:80]!r}; wanted a list of pairs")
    texts = [said(text).text for pair in pairs for text in pair]
    return [
        {"role": role, "content": text} for role, text in zip(itertools.cycle(("user", "assistant")), texts)
    ]


def _asked(
    instruction: Any,  # noqa: ANN401  (whatever a file holds)
    more: Any,  # noqa: ANN401
    system: str | None,
    messages: Any,  # noqa: ANN401
    before: list[Turn],
    *,
    tools: bool,
) -> Asked:
    needs = ("tools",) if tools else ()
    if system is not None and not system.strip():
        system = None
    told = _conversation_in(messages, instruction)
    turns = turns_of(told)
    if not turns:
        text = _joined(instruction, more)
        if text is None or not text.strip():
            return Asked(problem="bad_turns" if system is not None else None, needs=needs)
        if system is None and not before:
            return Asked(instruction=text, needs=needs)
        turns, told = [*before, {"role": "user", "content": text}], None
    if system is not None and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": system}, *turns]
    return _conversation(turns, needs, None if told is None else _last_said(told))


def _conversation_in(messages: Any, instruction: Any) -> Any:  # noqa: ANN401  (whatever a file holds)
    """The messages; where there are none, those that the instruction is."""
    told = written(messages)
    if told not in (None, "", []):
        return told
    told = written(instruction) if _is_spelt_chat(instruction) else instruction
    return told if isinstance(told, list) and told and all(_is_message(turn) for turn in told) else None


def _joined(instruction: Any, more: Any) -> str | None:  # noqa: ANN401  (whatever a file holds)
    """The instruction, and on a new line what it is about."""
    parts = [said(spelt_parts(part)).text for part in (instruction, more)]
    if parts[0] is not None and not (parts[1] or "").strip():
        return parts[0]
    return "\n".join(part for part in parts if part is not None and part.strip()) or None


def _last_said(messages: Any) -> Said:  # noqa: ANN401  (a conversation)
    """The last turn with what was thought before it and how it ended, where that stands apart."""
    last = messages[-1] if isinstance(messages, list) else messages
    return said(last) if "content" in last else Said(None, finish_reason=finish_in(last))


def _is_message(turn: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    return isinstance(turn, Mapping) and ("role" in turn or "from" in turn)


def _is_spelt_chat(value: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    return isinstance(value, str) and value.lstrip().startswith("[") and _SPELT_TURN.search(value) is not None


def _conversation(turns: list[Turn], needs: tuple[str, ...], own: Said | None) -> Asked:
    last = None
    if turns[-1]["role"] == "assistant":
        thought, finish = (None, None) if own is None else (own.reasoning, own.finish_reason)
        last = Said(turns[-1]["content"], thought, "tool_calls" in turns[-1], finish)
        turns = turns[:-1]
    if not any((turn["content"] or "").strip() or turn.get("tool_calls") for turn in turns):
        return Asked(last=last, needs=needs)
    needs = tuple(dict.fromkeys((*needs, *needs_of(turns))))
    return Asked(messages=turns, last=last, needs=needs, problem=None if usable(turns) else "bad_turns")


def usable(turns: Sequence[Turn]) -> bool:
    """Say whether an answer may follow: a user's turn or a tool's is last, none is empty, no two are the assistant's in a row.

    Example:
        >>> usable([{"role": "user", "content": "Hi"}]), usable([{"role": "system", "content": "Hi"}])
        (True, False)
    """
    roles = [turn["role"] for turn in turns]
    empty = any(not (turn["content"] or "").strip() and not turn.get("tool_calls") for turn in turns)
    twice = any(one == other == "assistant" for one, other in itertools.pairwise(roles))
    return "user" in roles and roles[-1] in {"user", "tool"} and not empty and not twice


def needs_of(turns: Sequence[Turn]) -> tuple[str, ...]:
    """Say what an export of messages has to hold: `tools`, and `turns` where user and assistant do not take turns.

    They do where the user is first and last, after at most one system turn. What a tool returned stands in the user's
    place, and a turn of the assistant either says something or calls tools.

    Example:
        >>> call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
        >>> needs_of([{"role": "user", "content": "Hi"}, call, {"role": "tool", "content": "4"}])
        ('tools',)
    """
    roles = [turn["role"] for turn in turns]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    usual = [("user", "assistant")[at % 2] for at in range(len(roles))]
    in_turns = len(roles) % 2 == 1 and roles[0] == "user"
    in_turns &= [{"tool": "user"}.get(role, role) for role in roles] == usual
    calling = [turn for turn in turns if turn.get("tool_calls")]
    in_turns &= all(
        all(map(_function, turn["tool_calls"])) and not (turn["content"] or "").strip() for turn in calling
    )
    needs = {"tools": bool(calling) or "tool" in roles, "turns": not in_turns}
    return tuple(need for need, there in needs.items() if there)


_QUOTES = ("`", "'", '"')


def parted(response: str) -> tuple[str | None, str]:
    """Part a response into the reasoning that it begins with and the answer; SQL's twin is in `columns`.

    Reasoning stands before the first `</think>`, after a `<think>` at the beginning or after none at all. One that is
    quoted or opened later is part of the answer, and one that never ends is all there is.

    Example:
        >>> parted("<think>7?</think> 8"), parted("Hm</think>8"), parted("Write `<think>` and `</think>`.")
        (('7?', '8'), ('Hm', '8'), (None, 'Write `<think>` and `</think>`.'))
    """
    head, closed, answer = response.partition("</think>")
    opens = head.lstrip().startswith("<think>")
    if not closed or head.endswith(_QUOTES) or (not opens and "<think>" in head):
        return None, response
    return head.lstrip().removeprefix("<think>").strip(), answer.lstrip()


MARKERS = ("</s>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>")
"""What chat templates end a turn with; left over at the end of an answer it is no part of it."""


def without_markers(text: str) -> str:
    r"""Cut chat markers off the end of an answer.

    Example:
        >>> without_markers("Hi<|im_end|>\n</s>")
        'Hi'
    """
    cut = text
    while True:
        bare = cut.rstrip()
        marker = next((marker for marker in MARKERS if bare.endswith(marker)), None)
        if marker is None:
            return cut if cut is text else bare
        cut = bare.removesuffix(marker)


@dataclass(slots=True)
class MarkerCuts:
    """Cuts chat markers off the ends of answers, and counts how many had some."""

    count: int = 0

    def __call__(self, answer: str) -> str:
        """Cut them; an answer that is nothing else stays."""
        cut = without_markers(answer)
        if cut == answer or not cut.strip():
            return answer
        self.count += 1
        return cut


def with_reasoning(text: str | None, reasoning: str | None) -> str | None:
    r"""Put reasoning before an answer, as the models that write `<think>` themselves do.

    Example:
        >>> with_reasoning("8", "7 + 1")
        '<think>\n7 + 1\n</think>\n\n8'
    """
    if reasoning is None or not reasoning.strip() or (text or "").lstrip().startswith("<think>"):
        return text
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{text or ''}"


@dataclass(slots=True)
class Counted:
    """Counts for notes, by the words for one and for several."""

    of: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, one: str, several: str, count: int = 1) -> None:
        """Count one more."""
        self.of[one, several] = self.of.get((one, several), 0) + count
