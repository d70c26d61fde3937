"""The HTTP client of `collect`, which also looks at the log-probabilities of an answer."""

import json
from typing import Self

from crowdselect.ask.endpoints import Endpoint, key
from crowdselect.ask.http_client import HttpClient
from crowdselect.reward.expectation import expected_score, packed


class JudgeClient(HttpClient):
    """Gives answers with the expected score beside them."""

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Make a client with the endpoint's key."""
        return cls(endpoint, key=key(endpoint))

    async def _send(self, content: bytes) -> bytes:
        return with_expectation(await super()._send(content))


def with_expectation(body: bytes) -> bytes:
    """Put the expected score into the answer's text; an answer of another shape stays as it is.

    Args:
        body: The JSON of a chat completion.

    Returns:
        The same, with the first message's content as `expectation.packed` writes it.
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
