"""The mean of a judge's score over what it nearly said: from the log-probabilities of the score's tokens."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from crowdselect.ask.http_client import HttpClient
from crowdselect.reward.rubric import HIGHEST, LOWEST, score_place

_MARK = "crowdselect_judgement"
_ENOUGH = 0.5  # of the probability must be on scores, or the number that was said counts
_LITTLE = 0.02  # so much may be on a "1" of which nobody knows whether it was a 10

Tokens = Sequence[Mapping[str, Any]]
"""As chat completions give them: `token`, `logprob` and `top_logprobs`, a list of the likeliest tokens."""


def expected_score(text: str, tokens: Tokens) -> float | None:
    """Weigh every score by its probability at the place where the score stands.

    Args:
        text: What the judge wrote.
        tokens: Of that text, from its beginning.

    Returns:
        From 0 to 10. None where there is no score, the tokens are not those of the text, less than half of
        the probability is on scores, or a likely "1" may have been the beginning of a 10.

    Example:
        >>> top = [{"token": "8", "logprob": math.log(0.75)}, {"token": "4", "logprob": math.log(0.25)}]
        >>> expected_score("8", [{"token": "8", "logprob": math.log(0.75), "top_logprobs": top}])
        7.0
    """
    place = score_place(text)
    if place is None or not text.startswith("".join(str(one["token"]) for one in tokens)[: len(text)]):
        return None
    at, begin = _token_at(tokens, place[0])
    if (
        at is None
        or begin + len(str(tokens[at]["token"])) > place[1] + 1
        or not text[slice(*place)].isdigit()
    ):
        return None
    shares = _shares(tokens[at])
    whole = begin + len(str(tokens[at]["token"])) >= place[1]
    ten = shares.pop("10", 0.0)
    one = shares.get("1", 0.0)
    if "10" not in _all(tokens[at]) and one > 0:  # digits one by one: a "1" may go on with a "0"
        if text[slice(*place)] == "10" and not whole and at + 1 < len(tokens):
            ten = one * _shares(tokens[at + 1]).get("0", 0.0)
            shares["1"] = one - ten
        elif text[slice(*place)] != "1" and one > _LITTLE:
            return None
    total = sum(shares.values()) + ten
    if total < _ENOUGH:
        return None
    return (sum(int(score) * share for score, share in shares.items()) + 10 * ten) / total


def _token_at(tokens: Tokens, character: int) -> tuple[int | None, int]:
    """Find the token in which a character stands, and where that token begins."""
    begin = 0
    for at, one in enumerate(tokens):
        end = begin + len(str(one["token"]))
        if begin <= character < end:
            return at, begin
        begin = end
    return None, begin


def _all(token: Mapping[str, Any]) -> set[str]:
    return {str(one["token"]).strip() for one in token.get("top_logprobs") or ()}


def _shares(token: Mapping[str, Any]) -> dict[str, float]:
    """The probability of every score among the likeliest tokens; tokens that differ in white space add up."""
    found: dict[str, float] = {}
    for one in token.get("top_logprobs") or (token,):
        name = str(one["token"]).strip()
        if name.isascii() and name.isdigit() and LOWEST <= int(name) <= HIGHEST:
            found[name] = found.get(name, 0.0) + math.exp(float(one["logprob"]))
    return found


def packed(text: str, expected: float | None) -> str:
    """Write an answer and the score that its log-probabilities give as one text, for the ledger."""
    return json.dumps({_MARK: 1, "text": text, "expected": expected}, ensure_ascii=False)


def unpacked(text: str) -> tuple[str, float | None]:
    """Read what `packed` wrote; any other text is the answer itself.

    Example:
        >>> unpacked(packed("Score: 7", 6.5)), unpacked("Score: 7")
        (('Score: 7', 6.5), ('Score: 7', None))
    """
    if text.startswith(f'{{"{_MARK}"'):
        found = json.loads(text)
        return found["text"], found["expected"]
    return text, None


class JudgeClient(HttpClient):
    """Gives answers with the expected score beside them."""

    async def _send(self, content: bytes) -> bytes:
        return with_expectation(await super()._send(content))


def with_expectation(body: bytes) -> bytes:
    """Put the expected score into the answer's text; an answer of another shape stays as it is.

    Args:
        body: The JSON of a chat completion.

    Returns:
        The same, with the first message's content as `packed` writes it.
    """
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        text = choice["message"]["content"]
        tokens = (choice.get("logprobs") or {}).get("content") or []
        if not isinstance(text, str) or not tokens:
            return body
        choice["message"]["content"] = packed(text, expected_score(text, tokens))
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return body  # whatever is wrong with it is said by the client
    return json.dumps(found).encode()
