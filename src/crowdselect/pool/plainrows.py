"""From the rows of files, whatever their form, to plain ones: a row per answer, the same columns everywhere."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from crowdselect.finish import spoken
from crowdselect.pool.content import (
    Asked,
    Counted,
    NotTextError,
    Repairs,
    Said,
    TurnsError,
    prompt_of,
    said,
    spelt_parts,
    turns_of,
    with_reasoning,
    written,
)
from crowdselect.pool.files import FoundFiles
from crowdselect.pool.howread import HowRead
from crowdselect.pool.inner import value_at
from crowdselect.pool.promptfoo import is_ungraded, is_yaml
from crowdselect.pool.rendered import decoded
from crowdselect.pool.rowfiles import Broken, Row, Seen, number_of
from crowdselect.pool.rowforms import Answer, MalformedError
from crowdselect.pool.understood import Understood
from crowdselect.pool.wideforms import unlisted

LEFT_OUT = "_left_out"
"""The column with the reason why an instruction cannot be chosen: a code, perhaps with words after a colon."""
NOT_TEXT = "_not_text"
"""The column that is true where an answer is something other than text."""
NEEDS = "_needs"
"""The column of what an export has to hold: `turns` that do not alternate, `tools`."""
ROW = "_row"
"""The column of the row's number in the user's file."""
_NO_JUDGMENT = "promptfoo's call or grader failed there, and the 0 that it writes is no judgment"
UNGRADED = (f"row has no scores: {_NO_JUDGMENT}", f"rows have no scores: {_NO_JUDGMENT}")
_AS_JSON = "read as one text; write them as JSON to read them as messages"
YAML = (
    f"prompt of promptfoo is messages in YAML, which are {_AS_JSON}",
    f"prompts of promptfoo are messages in YAML, which are {_AS_JSON}",
)
_UNFIT = "not as long as the answers beside: missing values"
UNNAMED = (
    "answer without a model is left out; others of its row have one",
    "answers without a model are left out; others of their rows have one",
)
FAILED = (
    "row is of a request that failed: it holds no answer, and is left out",
    "rows are of requests that failed: they hold no answer, and are left out",
)
ANSWERED = (
    "conversation ends with an answer, which is not sent",
    "conversations end with an answer, which is not sent",
)
_OTHER = ("something other than text", "something other than text")
_CALLS = ("calls of tools without a text", "calls of tools without a text")
_TEXT_WITH_CALLS = ("a text with calls of tools", "texts with calls of tools")
OWN = (LEFT_OUT, NOT_TEXT, NEEDS, ROW)

TEXTS = ("id", "instruction", "messages", "tools", "model", "response", "finish_reason", LEFT_OUT, NEEDS)
"""The columns of texts of a plain row."""
_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class PlainRows(Understood):
    """Makes plain rows of the files of one pool, and counts what it meets."""

    def __init__(
        self,
        found: FoundFiles,
        how: HowRead,
        *,
        answers: bool,
        numeric: frozenset[str] = frozenset(),
        decoded: bool = False,
    ) -> None:
        super().__init__(found, how, answers=answers)
        self._asked_how = how
        self._numeric = numeric
        self._decoded = decoded
        self._repairs = Repairs()
        self._seen: dict[str, Seen] = {}
        self._of_texts: dict[str, str] = {}
        """What `columns` calls columns of texts that are no part of a row → their names."""
        self._used: set[str] = set()
        self._counts = Counted()
        self._spelt: dict[str, str] = {}
        """Of the file that is read: the number that an id is → as it is written there."""
        self._bad: list[str] = []
        self._rows = self._unasked = 0
        self._texts = self._rendered = 0
        """Rows that ask with a text, and those of them whose text may be a rendered prompt."""

    def _plain_rows(self, number: int, file: Path) -> Iterator[Row]:
        model = self._told[number] if self._told else None
        self._spelt = {}
        for at, row in self._read(number, self._wanted):
            self._rows += 1
            place = f"{file}: row {at}"
            if isinstance(row, Broken):
                line = "line" if self._found.kind in {"json", "lm-eval"} else "row"
                self._bad.append(f"{file}: {line} {at} {row.what}")
                yield self._left_out(row.what, f"{file.name}:{at}", at)
                continue
            if model is not None:
                row["model"] = model
            if self._promptfoo and is_ungraded(row):
                self._counts.add(*UNGRADED)
            yield from self._of_row(row, place, f"{file.name}:{at}", at)

    def _malformed(self, place: str, what: str, id_: str, at: int) -> Row:
        self._bad.append(f"{place}: {what}")
        return self._left_out(what, id_, at)

    def _left_out(self, what: str, id_: str, at: int) -> Row:
        return {"id": self._repairs(id_), LEFT_OUT: f"malformed:{self._repairs(what)}", ROW: at}

    def _of_row(self, row: Row, place: str, unnamed: str, at: int) -> Iterator[Row]:
        parted = None if self._form is None else self._form.parted
        try:
            parts = [row] if parted is None else list(parted(row))
            if not parts:
                self._counts.add(*FAILED)
            yield from [made for part in self._named(parts) for made in self._of_part(part, unnamed, at)]
        except (MalformedError, TurnsError) as error:
            yield self._malformed(place, str(error), self._id_of(row) or unnamed, at)

    def _of_part(self, row: Row, unnamed: str, at: int) -> Iterator[Row]:
        own = self._id_of(row)
        asked = self._asked(row)
        self._check_id(own, row)
        answers = self._answers_of(row)
        for name in () if self._form is None else self._form.unfit(row):
            self._counts.add(f"of the lists {name} is {_UNFIT}", f"of the lists {name} are {_UNFIT}")
        plain = [self._answer(answer, asked) for answer in answers]
        carried = {own: self._scalar(own, row.get(name)) for name, own in self._carried.items()}
        carried |= {own: self._scalar(own, value_at(row, path)) for own, path in self._inner.items()}
        id_ = own if self._names.id is not None else self._made_id(row, asked, plain)
        if id_ is None and (self._form is None or self._numbered):
            id_ = str(self._rows) if self._numbered else unnamed  # there may be turns
        if id_ is None:
            raise MalformedError("it has neither an id nor text to make one from")
        if self._promptfoo and is_yaml(asked.instruction or ""):
            self._counts.add(*YAML)
        asked = self._split(asked)
        base = {**carried, **self._base(row, asked, self._repairs(id_), at)}
        if not plain:
            if self._form is not None:
                base[LEFT_OUT] = base.get(LEFT_OUT) or "no_answer"
            elif asked.last is not None:
                self._counts.add(*ANSWERED)
            yield base
        prompted = asked.problem is None and any(_system(answer) is not None for answer in answers)
        for answer, values in zip(answers, plain, strict=True):
            yield {**base, **values, **(self._own_prompt(answer, asked) if prompted else {})}

    def _named(self, parts: list[Row]) -> list[Row]:
        """The parts of a row without those whose answer has no model; see `_answers_of`."""
        if self._form is None or not self._how.skip_invalid or len(parts) == 1:
            return parts
        form = self._form
        named = [part for part in parts if all(each.model is not None for each in form.answers(part))]
        self._count_unnamed(len(parts), len(named))
        return named or parts

    def _answers_of(self, row: Row) -> list[Answer]:
        """The answers of a row; where malformed rows are left out and some have a model, these alone."""
        answers = [] if self._form is None else list(self._form.answers(row))
        if not self._how.skip_invalid:
            return answers
        named = [each for each in answers if each.model is not None]
        self._count_unnamed(len(answers), len(named))
        return named or answers

    def _count_unnamed(self, every: int, named: int) -> None:
        if 0 < named < every:
            self._counts.add(*UNNAMED, every - named)

    @cached_property
    def _torn(self) -> set[str]:
        """The ids of rows that contradict each other, where these are left out; the first of them need not be the right one."""
        names, seen, torn = self._names, dict[str, str](), set[str]()
        if not self._how.skip_invalid or names.id is None or self._form is None:
            return torn
        for _, row in (each for at in range(len(self._found.files)) for each in self._read(at, self._wanted)):
            own = None if isinstance(row, Broken) else self._id_of(row)
            if own is None or isinstance(row, Broken):
                continue
            alike = row if self._form.many else {n: row.get(n) for n in (names.instruction, names.input) if n}
            digest = hashlib.md5(
                repr(alike).encode("utf-8", "surrogatepass"), usedforsecurity=False
            ).hexdigest()
            if seen.setdefault(own, digest) != digest:
                torn.add(own)
        return torn

    def _check_id(self, own: str | None, row: Row) -> None:
        if self._names.id is None:
            return
        if own is None:
            raise MalformedError("the id is missing; wanted one in every row")
        value = row[self._names.id]
        if self._found.kind == "csv" and self._spelt.setdefault(own, value) != value:
            raise MalformedError(
                f"the id is {value}, and {self._spelt[own]} in another row, which is one number; write it alike in all rows, "
                "or as another text where these are two instructions"
            )
        if own in self._torn:
            raise MalformedError(f"another row has the id {own!r} too, and asks or holds something else")

    def _id_of(self, row: Row) -> str | None:
        name = self._names.id
        value = row.get(name) if name else None
        if name is None or value is None or value == "" or value != value:  # noqa: PLR0124  (NaN)
            return None
        text = isinstance(value, str) and self._found.kind != "csv"  # which has no others
        is_number = self._columns[name].name == "number" and not text
        return re.sub(r"\.0+$", "", str(value)) if is_number else str(value)

    def _asked(self, row: Row, system: Any = None) -> Asked:  # noqa: ANN401  (whatever a file holds)
        names = self._names
        value = row.get(names.instruction) if names.instruction else None
        asked = prompt_of(
            instruction=unlisted(value),
            input=row.get(names.input) if names.input else None,
            system=system or (row.get(names.system) if names.system else None),
            messages=row.get(names.messages) if names.messages else None,
            history=row.get(names.history) if names.history else None,
            tools=row.get(names.tools) if names.tools else None,
        )
        if names.input and row.get(names.input):
            self._used.add(names.input)
        return asked

    def _split(self, asked: Asked) -> Asked:
        """A prompt that was decoded without its special tokens as its messages, where nearly all are so; else as it is."""
        if asked.instruction is None or asked.messages is not None or asked.problem is not None:
            return asked
        turns = decoded(asked.instruction)
        self._texts += 1
        self._rendered += turns is not None
        return (
            asked if turns is None or not self._decoded else replace(asked, instruction=None, messages=turns)
        )

    def _base(self, row: Row, asked: Asked, id_: str, at: int) -> Row:
        """What all plain rows of a row have in common."""
        base: Row = {"id": id_, ROW: at}
        self._unasked += asked.instruction is None and asked.messages is None
        if asked.instruction is not None:
            base["instruction"] = self._repairs(asked.instruction)
        turns = asked.messages
        if turns is None and asked.instruction is not None and self._names.system is not None:
            # Other rows of the id may have a system turn.
            turns = [{"role": "user", "content": asked.instruction}]
        if turns is not None and asked.problem is None:
            base["messages"] = self._repairs(_encoded(list(turns)))
        tools = row.get(self._names.tools) if self._names.tools else None
        if written(tools):
            base["tools"] = self._repairs(_encoded(written(tools)))
        if asked.needs:
            base[NEEDS] = " ".join(asked.needs)
        if asked.problem == "bad_turns" and self._form is None and row.get("turns"):
            base["messages"] = self._repairs(_encoded(turns_of(row.get(self._names.messages or ""))))
        elif asked.problem is not None:
            base[LEFT_OUT] = asked.problem
        return base

    def _own_prompt(self, answer: Answer, asked: Asked) -> Row:
        """The messages of an answer where answers have system prompts of their own."""
        system = _system(answer)
        turns = list(asked.messages or [{"role": "user", "content": asked.instruction or ""}])
        if system is not None:
            turns = turns[1:] if turns[0]["role"] == "system" else turns
            turns = [{"role": "system", "content": system}, *turns]
        return {"messages": self._repairs(_encoded(turns))}

    def _answer(self, answer: Answer, asked: Asked) -> Row:
        """The columns of an answer's own."""
        if answer.model is None:
            raise MalformedError(answer.unnamed)
        values: Row = {"model": self._repairs(answer.model), "sample": answer.sample}
        text, odd, finish = self._text(answer, asked)
        values["response"] = None if text is None else self._repairs(text)
        values[NOT_TEXT] = odd is not None
        if odd is not None:
            one, several = odd
            self._counts.add(
                f"answer is {one}: its rewards count, but only texts are trained on",
                f"answers are {several}: their rewards count, but only texts are trained on",
            )
        finish = answer.finish_reason if finish is None else finish
        values["finish_reason"] = str(finish) if finish is not None and finish != "" else None
        for name, value in answer.values.items():
            column = own_name(name)
            values[column] = self._scalar(column, value)
        return values

    def _text(self, answer: Answer, asked: Asked) -> tuple[str | None, tuple[str, str] | None, Any]:
        """An answer's text with its reasoning before it; what it is where it is something other than text; how it ended."""
        try:
            own = said(spelt_parts(answer.response))
            thought = said(answer.reasoning).text if answer.reasoning is not None else None
        except NotTextError:
            return None, _OTHER, None
        if asked.last is not None and self._form is not None and not self._form.many and self._names.response:
            own = self._ended(own, asked.last)
        elif asked.last is not None and self._form is not None and self._form.name == "long":
            own = asked.last
        if own.calls:
            beside = bool(spoken(own.text or "").strip())
            return None, _TEXT_WITH_CALLS if beside else _CALLS, None
        whole = with_reasoning(own.text, own.reasoning if thought is None else thought)
        return whole, None, own.finish_reason

    def _ended(self, own: Said, last: Said) -> Said:
        """Compare the answer that the messages end with to the row's own."""
        if own.calls:
            return own
        if own.text is None or not own.text.strip():
            return last
        if self._form is not None and self._form.name != "long":
            return (
                own  # a list of answers of its own: what the messages end with is one of them, or another's
            )
        if last.text is not None and spoken(last.text).strip() != spoken(own.text).strip():
            raise MalformedError(
                f"messages end with another answer ({last.text[:40]!r}) than `response` ({own.text[:40]!r})"
            )
        finish = own.finish_reason or last.finish_reason
        return replace(own, reasoning=own.reasoning or last.reasoning, calls=last.calls, finish_reason=finish)

    def _scalar(self, name: str, value: Any) -> str | None:  # noqa: ANN401  (whatever a file holds)
        """A value as text, and take note of what it is."""
        if isinstance(value, float) and value in {float("inf"), float("-inf")}:
            raise MalformedError(f"{name} is {value}, not a finite number")
        if name in self._numeric and isinstance(value, str):
            try:
                number_of(value)
            except ValueError:
                raise MalformedError(f"{name} is {value[:60]!r}, not a number") from None
        self._seen.setdefault(name, Seen()).add(value)
        if value is None or value != value:  # noqa: PLR0124  (NaN)
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float | int):
            return repr(value)
        return self._repairs(value if isinstance(value, str) else _encoded(value))

    def _made_id(self, row: Row, asked: Asked, plain: Sequence[Row]) -> str | None:
        """A hash of what the row holds: of the prompt, and where a row is an instruction of its answers too."""
        text = asked.instruction
        if text is None and asked.messages is not None:
            text = _encoded([turn for turn in asked.messages if turn["role"] != "assistant"])
        if text is None or not text.strip():
            names = self._names
            parts = [row.get(n) for n in (names.instruction, names.input, names.system, names.messages) if n]
            text = _encoded(parts) if any(part is not None for part in parts) else None
        if text is None:
            return None
        if self._form is not None and self._form.many:
            pairs = [
                {"model": p["model"], "response": p["response"]} for p in plain if p["response"] is not None
            ]
            text += chr(31) + _encoded(sorted(pairs, key=lambda pair: (pair["model"], pair["response"])))
        return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _system(answer: Answer) -> str | None:
    """The system prompt that an answer has of its own; None where it has none."""
    try:
        text = said(answer.system).text
    except NotTextError:
        return None
    return text if text is not None and text.strip() else None


def own_name(name: str) -> str:
    """The column of a value of an answer's own; those of our own names get another."""
    return f"answer_{name}" if name in {*TEXTS, *OWN, "sample"} else name
