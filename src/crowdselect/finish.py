"""How an answer ended: one table for the finish reasons of all servers, used wherever an answer is read."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

Ending = Literal["finished", "cut", "filtered", "failed", "odd"]
"""`finished`; `cut`: the end is missing; `filtered`: withheld; `failed`: broken off by an error; `odd`: for an unknown reason."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)
FINISHED = (
    *("", "stop", "eos", "eos_token", "end_turn", "stop_sequence"),
    *("tool_calls", "function_call", "tool_use", "complete"),
)
CUT = ("length", "max_tokens", "model_length")
FILTERED = (
    *("content_filter", "content_filtered", "safety", "image_safety", "recitation", "blocklist"),
    *("prohibited_content", "spii", "refusal", "guardrail_intervened", "error_toxic"),
)
FAILED = (
    *("error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"),
    "malformed_function_call",
)

_TABLE: dict[str, Ending] = {
    **dict.fromkeys(FINISHED, "finished"),
    **dict.fromkeys(CUT, "cut"),
    **dict.fromkeys(FILTERED, "filtered"),
    **dict.fromkeys(FAILED, "failed"),
}
_OPEN, _CLOSED = "<think>", "</think>"


FINISH_REASON = "finish_reason"
"""Where a file says how an answer ended: its column, or the field of an object that holds the answer."""


def is_finish(name: str) -> bool:
    """Say whether a column or a field says how an answer ended, by its name.

    Example:
        >>> is_finish("Finish_Reason"), is_finish("finished")
        (True, False)
    """
    return name.strip().casefold() == FINISH_REASON


def finish_in(said: Mapping[str, Any]) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Read how an answer ended from the object that holds it; None where that does not say.

    Example:
        >>> finish_in({"text": "Hi", "finish_reason": "length"}), finish_in({"text": "Hi"})
        ('length', None)
    """
    return next((value for name, value in said.items() if is_finish(name)), None)


def ending(reason: str | None, text: str = "") -> Ending:
    """Classify how an answer ended.

    Args:
        reason: The server's finish reason, in any case; None = it sent none, as some servers do at a normal end.
        text: The answer: one that begins with a `<think>` that is never closed was cut.

    Example:
        >>> ending("MAX_TOKENS"), ending(None, "Hi"), ending("stop", "<think>Hm"), ending("repetition")
        ('cut', 'finished', 'cut', 'odd')
    """
    kind = _TABLE.get((reason or "").strip().lower(), "odd")
    return "cut" if kind in {"finished", "odd"} and is_thinking(text) else kind


def is_thinking(text: str) -> bool:
    """Tell whether a text opens with a `<think>` that it never closes.

    Example:
        >>> is_thinking("<think> Hm"), is_thinking("<think>Hm</think> Hi")
        (True, False)
    """
    return text.lstrip().startswith(_OPEN) and _CLOSED not in text


def spoken_from(text: str) -> int:
    """Find where the reply after the thinking begins; the text's length if the thinking never ends.

    Example:
        >>> spoken_from("<think>7?</think> 8"), spoken_from("8"), spoken_from("<think>7?")
        (17, 0, 9)
    """
    if is_thinking(text):
        return len(text)
    closed = text.rfind(_CLOSED)
    opened = text.find(_OPEN)
    if closed < 0 or (0 <= opened < closed and text[:opened].strip()):
        return 0
    return closed + len(_CLOSED)


def spoken(text: str) -> str:
    """Return a reply without the thinking before it."""
    return text[spoken_from(text) :]


def after_thinking(text: str) -> int:
    """Find where a judge's verdict may stand: after the last `</think>`; nowhere after a `<think>` that is not closed.

    Example:
        >>> after_thinking("Hm, 7?</think>8"), after_thinking("8 <think>or 9"), after_thinking("8")
        (14, 13, 0)
    """
    closed = text.rfind(_CLOSED)
    begin = 0 if closed < 0 else closed + len(_CLOSED)
    return len(text) if text.find(_OPEN, begin) >= 0 else begin


def why_ended(reason: str | None, text: str = "") -> str | None:
    """Describe why an answer is incomplete; None if it is complete, or the reason is unknown."""
    kind = ending(reason, text)
    if kind in {"finished", "odd"}:
        return None
    if kind == "cut":
        return "an unfinished <think>" if is_thinking(text) else f"cut off ({reason})"
    if kind == "filtered":
        return "withheld by a content filter"
    return f"broken off by the server (finish_reason {reason})"


def no_verdict(reason: str | None, text: str) -> str | None:
    """Describe why a judge's reply is no verdict, whatever it contains; None if it may be read.

    Example:
        >>> no_verdict("length", "Score: 7"), no_verdict("stop", "Score: 7")
        ("the judge's reply is no verdict: cut off (length)", None)
    """
    why = why_ended(reason, text)
    return None if why is None else f"the judge's reply is no verdict: {why}"


def ending_sql(reason: str, text: str | None) -> str:
    """Build the SQL of `ending`, whose value is an index into `ENDINGS`.

    Args:
        reason: SQL expression of the reason, a text.
        text: SQL expression of the answer; None = there is none.
    """
    reason_sql = f"lower(trim(coalesce({reason}, '')))"
    cases = [
        f"WHEN {reason_sql} IN ({_listed(names)}) THEN {code}"
        for code, names in ((1, CUT), (2, FILTERED), (3, FAILED))
    ]
    if text is not None:
        cases.append(
            f"WHEN starts_with(ltrim({text}, {_SPACES}), '{_OPEN}') AND NOT contains({text}, '{_CLOSED}') THEN 1"
        )
    return f"CAST(CASE {' '.join(cases)} WHEN {reason_sql} IN ({_listed(FINISHED)}) THEN 0 ELSE 4 END AS UTINYINT)"


_SPACES = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


def whole_sql(reason: str) -> str:
    """Build SQL that is true for the reasons, as a ledger records them, of answers that need no second try.

    Those are finished or cut; anything else is asked again with `Limits.retry_failed`.
    """
    return f"lower(trim(coalesce({reason}, ''))) IN ({_listed((*FINISHED, *CUT))})"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
