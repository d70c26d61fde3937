"""How an answer ended: one table for the finish reasons of all servers, used wherever an answer is read."""

from typing import Literal, get_args

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


def ending(reason: str | None, text: str = "") -> Ending:
    """Say how an answer ended.

    Args:
        reason: As the server said it, in any case; None = it said none, which is how some servers finish.
        text: What was answered: where it begins with a `<think>` that is never closed, it was cut.

    Example:
        >>> ending("MAX_TOKENS"), ending(None, "Hi"), ending("stop", "<think>Hm"), ending("repetition")
        ('cut', 'finished', 'cut', 'odd')
    """
    kind = _TABLE.get((reason or "").strip().lower(), "odd")
    return "cut" if kind in {"finished", "odd"} and is_thinking(text) else kind


def is_thinking(text: str) -> bool:
    """Say whether a text opens with a `<think>` that it never closes.

    Example:
        >>> is_thinking("<think> Hm"), is_thinking("<think>Hm</think> Hi")
        (True, False)
    """
    return text.lstrip().startswith(_OPEN) and _CLOSED not in text


def spoken_from(text: str) -> int:
    """Find where a reply begins once its thinking is over; the text's length where it never is.

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
    """Give a reply without the thinking before it."""
    return text[spoken_from(text) :]


def why_ended(reason: str | None, text: str = "") -> str | None:
    """Say in words why an answer is not whole; None where it is, or where the reason is unknown."""
    kind = ending(reason, text)
    if kind in {"finished", "odd"}:
        return None
    if kind == "cut":
        return "an unfinished <think>" if is_thinking(text) else f"cut off ({reason})"
    if kind == "filtered":
        return "withheld by a content filter"
    return f"broken off by the server (finish_reason {reason})"


def no_verdict(reason: str | None, text: str) -> str | None:
    """Say why a judge's reply is no verdict, whatever stands in it; None where it may be read.

    Example:
        >>> no_verdict("length", "Score: 7"), no_verdict("stop", "Score: 7")
        ("the judge's reply is no verdict: cut off (length)", None)
    """
    why = why_ended(reason, text)
    return None if why is None else f"the judge's reply is no verdict: {why}"


def ending_sql(reason: str, text: str | None) -> str:
    """SQL of `ending`, as its place in `ENDINGS`.

    Args:
        reason: SQL of the reason, a text.
        text: SQL of what was answered; None = there is none.
    """
    said = f"lower(trim(coalesce({reason}, '')))"
    cases = [
        f"WHEN {said} IN ({_listed(names)}) THEN {place}"
        for place, names in ((1, CUT), (2, FILTERED), (3, FAILED))
    ]
    if text is not None:
        cases.append(
            f"WHEN starts_with(ltrim({text}, {_SPACES}), '{_OPEN}') AND NOT contains({text}, '{_CLOSED}') THEN 1"
        )
    return f"CAST(CASE {' '.join(cases)} WHEN {said} IN ({_listed(FINISHED)}) THEN 0 ELSE 4 END AS UTINYINT)"


_SPACES = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


def whole_sql(reason: str) -> str:
    """SQL that is true where a reason, as it stands in a ledger, is of an answer that has come to an end.

    Finished or cut: what is neither is asked again with `Limits.retry_failed`.
    """
    return f"lower(trim(coalesce({reason}, ''))) IN ({_listed((*FINISHED, *CUT))})"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
