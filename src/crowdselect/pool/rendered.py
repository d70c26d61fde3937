r"""Prompts that are conversations already rendered with a chat template, which a trainer would template a second time.

A prompt that is wholly and strictly of a form of `TEMPLATES` is read as its messages. One that only begins as such a
prompt begins, or ends as one ends, stays as it is, and the user is warned. Text that speaks of markers is neither.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crowdselect.pool.codes import to_numpy
from crowdselect.pool.content import TIDY_ROLES, Turn
from crowdselect.types import BoolArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

_BOS = r"(?:<s>|<bos>|<\|endoftext\|>|<\|begin_of_text\|>)"
_ROLES = {"system": "system", "user": "user", "assistant": "assistant"}


def _any_of(texts: Sequence[str]) -> str:
    """A pattern of one of some texts."""
    return "|".join(map(re.escape, texts))


_OPEN = re.compile(r"\s*(<think>\s*(</think>\s*)?)?")
"""What may stand in the turn that is to be answered: templates of models that reason open it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A form in which conversations are rendered."""

    name: str
    head: re.Pattern[str]
    """What may stand before the first turn."""
    opening: re.Pattern[str]
    """How a turn begins, with its role as a group."""
    closing: str
    """How a turn ends, but for white space; empty = where the next begins."""
    roles: Mapping[str, str]
    """What it calls the roles."""
    markers: tuple[str, ...] = ()
    """What cannot stand within a turn."""
    begun: bool = False
    """Whether the turn that is to be answered has to be begun."""
    adds: re.Pattern[str] | None = None
    """What it puts before a system prompt of its own accord."""

    def read(self, text: str) -> list[Turn] | None:
        r"""Read a rendered prompt: the messages before the answer; None where it is not wholly and strictly of this form.

        Example:
            >>> TEMPLATES[0].read("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
            [{'role': 'user', 'content': 'Hi'}]
            >>> TEMPLATES[0].read("<|im_start|>user\nHi<|im_end|> So?")
        """
        openings = list(self.opening.finditer(text))
        if not openings or not self.head.fullmatch(text, 0, openings[0].start()):
            return None
        turns: list[Turn] = []
        opened = False
        ends = [*(found.start() for found in openings[1:]), len(text)]
        for found, end in zip(openings, ends, strict=True):
            role, body = self.roles.get(found[1]), text[found.end() : end]
            opened = end == len(text) and role == "assistant" and _OPEN.fullmatch(body) is not None
            if opened:
                break
            content = self._content(body)
            if role is None or content is None:
                return None
            if role == "system" and self.adds is not None:
                content = self.adds.sub("", content)
            if role != "system" or turns or content.strip():
                turns.append({"role": role, "content": content})
        tidy = re.fullmatch(TIDY_ROLES, ",".join(turn["role"] for turn in turns))
        whole = tidy and all(turn["content"].strip() for turn in turns) and (opened or not self.begun)
        return turns if whole else None

    def _content(self, body: str) -> str | None:
        """What a turn says; None where it does not end as it has to, or holds a marker."""
        content, closed, rest = body.partition(self.closing) if self.closing else (body, "", "")
        broken = closed != self.closing or rest.strip() or any(marker in content for marker in self.markers)
        return None if broken else content


TEMPLATES = (
    Template(
        name="ChatML",
        head=re.compile(rf"\s*(?:{_BOS}\s*)?"),
        opening=re.compile(r"<\|im_start\|>(\w+)(?:\n|\s*\Z)"),
        closing="<|im_end|>",
        roles=_ROLES,
        markers=("<|im_start|>",),
    ),
    Template(
        name="Llama 3",
        head=re.compile(rf"\s*(?:{_BOS}\s*)?"),
        opening=re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>(?:\n\n|\s*\Z)"),
        closing="<|eot_id|>",
        roles=_ROLES,
        markers=("<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>"),
        adds=re.compile(r"\ACutting Knowledge Date: .*\nToday Date: .*\n\n"),
    ),
    Template(
        name="hh-rlhf",
        head=re.compile(""),
        opening=re.compile(r"\n\n(Human|Assistant):(?: |\s*\Z)"),
        closing="",
        roles={"Human": "user", "Assistant": "assistant"},
        begun=True,
    ),
)
"""The forms that are read."""

_DECODED = Template(
    name="ChatML without its special tokens",
    head=re.compile(""),
    opening=re.compile(r"(?:\A|\n)(system|user|assistant)(?:\n|\s*\Z)"),
    closing="",
    roles=_ROLES,
    begun=True,
)
DECODED = _DECODED.name
"""What verl and others write, which decode a prompt and skip the special tokens. A text alone does not tell it from one that
speaks of a user: it is read where nearly all prompts of a pool are so."""
DECODED_BEGINNINGS = ("system\n", "user\n")

_BAR = "\uff5c"  # of DeepSeek's markers
_BEGINNINGS = (
    *("<|im_start|>", "<|start_header_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|start|>"),
    *("<start_of_turn>", f"<{_BAR}User{_BAR}>", "[INST]", "<<SYS>>"),
)
_ENDINGS = (
    *("<|im_start|>assistant", "<|start_header_id|>assistant<|end_header_id|>", "<|start|>assistant"),
    *("<start_of_turn>model", f"<{_BAR}Assistant{_BAR}>", "[/INST]"),
)
_HUMAN = "Human: ... Assistant:"
_USER = "user ... assistant"
# Python and Arrow read these alike: ^ and $ are the beginning and the end of the text.
_BEGINS = re.compile(
    rf"^\s*(?:(?:{_BOS}|<{_BAR}begin▁of▁sentence{_BAR}>)\s*)?({_any_of(_BEGINNINGS)})", re.ASCII
)
_ENDS = re.compile(rf"({_any_of((*_ENDINGS, '<|assistant|>'))})\s*$", re.ASCII)
_SPOKEN = re.compile(r"(?s)^\s*Human:.*\nAssistant:\s*$", re.ASCII)
_BARE = re.compile(r"(?s)^(?:system|user)\n.*(?:\n(?:assistant|model)|assistant\n\n)\s*$", re.ASCII)
NEARLY_ALL = 0.9
_TAIL = 100  # characters in which the last marker stands

FORMS = ("", *(template.name for template in TEMPLATES), *_BEGINNINGS, *_ENDINGS, _HUMAN, _USER)
"""What a prompt may be, by number: plain, rendered with a template and read so, or with a marker that could not be read."""
READ = range(1, len(TEMPLATES) + 1)
"""Which of these are read as messages."""


def messages_in(chat: list[Turn]) -> tuple[list[Turn], int]:
    r"""Read a prompt whose user's turn is a rendered conversation as the messages that it is.

    Args:
        chat: What is asked; only one user's turn is looked at, with at most a system's before it.

    Returns:
        The messages, those given where there is nothing to read; and a place in `FORMS`.

    Example:
        >>> messages_in([{"role": "user", "content": "\n\nHuman: Hi\n\nAssistant:"}])[0]
        [{'role': 'user', 'content': 'Hi'}]
    """
    if [turn["role"] for turn in chat] not in (["user"], ["system", "user"]) or not chat[-1]["content"]:
        return chat, 0
    text = chat[-1]["content"]
    marker = _marker(text)
    if marker is None:
        return chat, 0
    for number, template in enumerate(TEMPLATES, start=1):
        turns = template.read(text)
        if turns is None:
            continue
        told = [turn for turn in turns if turn["role"] == "system"]
        if not told:
            return [*chat[:-1], *turns], number
        if len(chat) == 1 or told[0]["content"].strip() == (chat[0]["content"] or "").strip():
            return turns, number
    return chat, FORMS.index(marker)


def decoded(text: str | None) -> list[Turn] | None:
    r"""Read a prompt that was rendered with a chat template and decoded without its special tokens; None where it is none.

    Example:
        >>> decoded("system\nBe brief.\nuser\nHi\nassistant\n")
        [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
        >>> decoded("user\nis what a role is called")
    """
    return None if text is None or not text.startswith(DECODED_BEGINNINGS) else _DECODED.read(text)


def _marker(text: str) -> str | None:
    """The marker that a prompt begins or ends with as only rendered ones do; None where there is none."""
    found = _BEGINS.match(text) or _ENDS.search(text.rstrip(" \t\n\r\f")[-_TAIL:])
    if found is not None:
        return found[1]
    if _SPOKEN.match(text):
        return _HUMAN
    return _USER if text.startswith(DECODED_BEGINNINGS) and _BARE.match(text) else None


def with_markers(texts: "pa.Array") -> BoolArray:
    """Say which texts begin or end as only rendered prompts do, shape (N,); what is null does not."""
    import pyarrow.compute as pc

    found = np.zeros(len(texts), dtype=np.bool_)
    for pattern in (_BEGINS, _ENDS, _SPOKEN, _BARE):
        found |= to_numpy(pc.fill_null(pc.match_substring_regex(texts, pattern.pattern), fill_value=False))
    return found


def counts_of(forms: IntArray) -> list[int]:
    """Count prompts by their place in `FORMS`."""
    found: list[int] = np.bincount(forms, minlength=len(FORMS)).tolist()
    return found


def read_as(read: str | None, counts: Sequence[int]) -> str | None:
    """Say how a pool was understood, and how many of its prompts were read as messages.

    Example:
        >>> read_as(None, counts_of(np.array([0, 1, 1])))
        '2 prompts are read as the messages that a chat template was applied to (ChatML)'
    """
    named = [FORMS[form] for form in READ if counts[form]]
    if not named:
        return read
    total = sum(counts[form] for form in READ)
    many = "1 prompt is" if total == 1 else f"{total:,} prompts are"
    said = f"{many} read as the messages that a chat template was applied to ({', '.join(named)})"
    return said if read is None else f"{read}; {said}"


def template_lines(counts: Sequence[int]) -> list[str]:
    """Warn of prompts that hold markers of a chat template and could not be read; one line, or none.

    Example:
        >>> template_lines(counts_of(np.array([0, FORMS.index("[INST]")])))[0].partition(";")[0]
        '1 prompt holds markers of a chat template ([INST])'
    """
    found = {FORMS[form]: counts[form] for form in range(READ.stop, len(FORMS)) if counts[form]}
    if not found:
        return []
    total = sum(found.values())
    many = "1 prompt holds" if total == 1 else f"{total:,} prompts hold"
    named = [name if len(found) == 1 else f"{name} in {count:,}" for name, count in found.items()]
    line = (
        f"{many} markers of a chat template ({', '.join(named)}); they stay as they are, and whoever trains on them puts "
        "another template around them: give what was rendered as a column `messages`, a list of {role, content}, or take the "
        "markers out"
    )
    return [line]
