r"""The final answer of a text: the place where it is looked for, in one order for all verifiers.

1. the last JSON field `"answer"`, also of JSON that is broken elsewhere or holds LaTeX with single backslashes;
2. the last `\boxed{...}`;
3. `####`, where it begins the last line or a number stands alone after it (elsewhere it is a heading);
4. what follows the last "answer is" or "answer:", to the end of its sentence;
5. the last line that says something.
"""

import json
import re

_FIELD = re.compile(r'"answer"\s*:\s*')
_LOOSE_END = re.compile(
    r'(?<!\\)"\s*(?:,\s*"\w+"\s*:|\}|```|$)'
)  # of a text with quotes that are not escaped
_LIST_END = re.compile(r"\s*(?:,|\}|\n|$)")
_SCALAR = re.compile(r"[^,}\n]*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LATEX_N = re.compile(r"n(?:e|eq|u|abla|ot|otin|eg|i|leq|geq|mid|cong|parallel|subseteq)(?![a-zA-Z])")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"(?m)^\s*####[ \t]*(\S.*)$")
_LONE_NUMBER = re.compile(r"[-+$€£]*[\d.,/]*\d%?\s*")
_ANSWER_IS = re.compile(r"(?i)\banswer\b[*_`\s]*(?:is\b|:|=)[*_`:\s]*")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")


def final_answer(text: str, extract: "re.Pattern[str] | None" = None) -> str | None:
    r"""Find the final answer in a text.

    Args:
        text: A whole answer, without reasoning in `<think>`.
        extract: Where it is instead: the last match, or its first group if the pattern has one.

    Returns:
        The final answer as it is written there; None = `extract` matches nothing, or the text says nothing.

    Example:
        >>> final_answer('{"answer": "7"} is what I say; \\boxed{8}')
        '7'
        >>> final_answer(r"So \boxed{\frac{1}{2}}. The answer is 3.")
        '\\frac{1}{2}'
        >>> final_answer("6 * 3 = 18\n#### 18"), final_answer("#### Step 1\nThe answer is 18. Bye."), final_answer("It is\n18")
        ('18', '18', '18')
        >>> final_answer("A: 7, B: 8", re.compile("([A-Z]): [0-9]"))
        'B'
    """
    if extract is not None:
        found = None
        for found in extract.finditer(text):  # noqa: B007  (the last is wanted)
            pass
        return None if found is None else found[1 if extract.groups else 0]
    places = (place(text) for place in (_field, _boxed, _hashes, _answer_is, _last_line))
    return next((found for found in places if found is not None), None)


def _field(text: str) -> str | None:
    """Read the last JSON field `answer`; null is none, and the empty text is an answer."""
    end = -1
    for match in _FIELD.finditer(text):
        end = match.end()
    if end < 0:
        return None
    if text.startswith('"', end):
        return _string(text, end).strip()
    if text[end : end + 1] in {"[", "{"}:
        try:
            _, closed = json.JSONDecoder(strict=False).raw_decode(text, end)
        except (ValueError, RecursionError):
            closed = -1
        if closed > 0 and _LIST_END.match(text, closed):
            return text[end:closed]
        return text[end:].partition("\n")[0].strip().rstrip("},") or None
    scalar = (_SCALAR.match(text, end) or [""])[0].strip()
    return scalar if scalar not in {"", "null"} else None


def _string(text: str, quote: int) -> str:
    """Read the JSON string that begins at `quote`, which may hold quotes and backslashes that are not escaped."""
    for closing in re.finditer(r'\\.|"', text[quote + 1 :], re.DOTALL):
        if closing[0] == '"':
            end = quote + 1 + closing.start()
            if re.match(r"\s*(?:,\s*[\"}]|\}|$)", text[end + 1 :]):
                return _unescaped(text[quote + 1 : end])
            break
    loose = _LOOSE_END.search(text, quote + 1)
    return _unescaped(text[quote + 1 : loose.start() if loose else len(text)])


def _unescaped(raw: str) -> str:
    r"""Undo JSON's escapes, but not what begins a command of LaTeX: `\frac` is no form feed."""

    def plain(match: re.Match[str]) -> str:
        code, letter = match[1], match[2]
        if code is not None:
            return chr(int(code, 16))
        if letter not in _CONTROLS:
            return letter if letter in '"\\/' else match[0]
        after = raw[match.end() : match.end() + 1]
        is_command = _LATEX_N.match(raw, match.start() + 1) if letter == "n" else after.isalpha()
        return match[0] if is_command else _CONTROLS[letter]

    return _ESCAPE.sub(plain, raw)


def _boxed(text: str) -> str | None:
    r"""Read the last `\boxed{...}`, to the brace that closes it."""
    begin = -1
    for match in _BOXED.finditer(text):
        begin = match.end()
    if begin < 0:
        return None
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[begin:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return text[begin : begin + brace.start()].strip() or None
    return None


def _hashes(text: str) -> str | None:
    """Read what follows `####`, where that is no heading."""
    found = list(_HASHES.finditer(text))
    for match in reversed(found):
        if _LONE_NUMBER.fullmatch(match[1]) or not text[match.end() :].strip():
            return match[1].strip()
    return None


def _answer_is(text: str) -> str | None:
    end = -1
    for match in _ANSWER_IS.finditer(text):
        end = match.end()
    if end < 0:
        return None
    close = _SENTENCE_END.search(text, end)
    return text[end : close.start() if close else len(text)].strip() or None


def _last_line(text: str) -> str | None:
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if any(map(str.isalnum, line))), None)
