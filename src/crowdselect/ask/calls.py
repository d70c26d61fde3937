"""Requests, replies and errors that lanes and clients exchange; the client protocol, and a scripted client."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from crowdselect.ask.endpoints import Endpoint
from crowdselect.errors import CallError
from crowdselect.finish import ending, spoken, spoken_from, why_ended
from crowdselect.pool.prompts import Chat

Status = Literal["ok", "length", "empty", "odd", "filtered", "failed", "gave_up", "pending"]
"""How a request ended; `crowdselect.finish` maps finish reasons.

`ok`; `length`: cut off, at the token limit or while thinking; `empty`: no text; `odd`: an unknown finish
reason; `filtered`: withheld by a content filter; `failed`: an error that a retry would not fix, or an answer
that the server broke off; `gave_up`: retried as often as allowed;
`pending`: sent, but the run ended before an answer arrived, so it is sent again.
"""

_written = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
ANSWERED: tuple[Status, ...] = ("ok", "length", "empty", "odd")
"""Statuses that have a row in the pool."""
MISSING: tuple[Status, ...] = ("filtered", "failed", "gave_up")
"""Statuses without a row in the pool."""
AGAIN: tuple[Status, ...] = (*MISSING, "odd")
"""Statuses that are sent again with `retry_failed=True`."""


def status_of(finish_reason: str | None, text: str) -> Status:
    """Return the status for an answer's finish reason and text.

    Example:
        >>> status_of("stop", "Hi"), status_of("length", "Hi"), status_of(None, " "), status_of("error", "Hi")
        ('ok', 'length', 'empty', 'failed')
    """
    kind = ending(finish_reason, text)
    if kind == "finished":
        return "ok" if text.strip() else "empty"
    return "length" if kind == "cut" else kind


class Request(NamedTuple):
    """One request to a model: a conversation that ends with a user's turn.

    Attributes:
        prompt: The messages as JSON; with tools an object of `messages` and `tools`.
        digest: SHA-256 of `prompt`.
        sample: Number of the answer if several are wanted.
        then: Further user turns, each sent after the model's answer to the previous one.
    """

    prompt: str
    digest: bytes
    sample: int = 0
    then: tuple[str, ...] = ()

    def key(self, endpoint: Endpoint) -> bytes:
        """Return the request's key in the ledger, 32 bytes; it depends on content only."""
        return request_key(endpoint.digest, self.digest, self.sample)

    def messages(self) -> Chat:
        """Parse the messages; the endpoint's system message is not among them."""
        return parsed_prompt(self.prompt)[0]

    def tools(self) -> list[Any] | None:
        """Parse the tools that the model may call; None where there are none."""
        return parsed_prompt(self.prompt)[1]

    def follow(self, answer: str) -> "Request":
        """Return the request for the next turn, which includes the model's answer to this one.

        Example:
            >>> first = make_request([{"role": "user", "content": "Hi"}], then=("And now?",))
            >>> [turn["role"] for turn in first.follow("Hello").messages()]
            ['user', 'assistant', 'user']
        """
        said = spoken(answer).lstrip() if spoken_from(answer) else answer
        turns = [{"role": "assistant", "content": said}, {"role": "user", "content": self.then[0]}]
        tools = self.tools()
        return make_request([*self.messages(), *turns], sample=self.sample, then=self.then[1:], tools=tools)


def request_key(settings: bytes, prompt: bytes, sample: int) -> bytes:
    """Compute the key of a request; see `Request.key`.

    Args:
        settings: Digest of the endpoint's settings.
        prompt: Digest of the messages.
        sample: Number of the answer.
    """
    return hashlib.sha256(settings + prompt + sample.to_bytes(8, "big")).digest()


def parsed_prompt(prompt: str) -> tuple[Chat, list[Any] | None]:
    """Parse the prompt of a request: its messages, and the tools that may be called, if any."""
    found = json.loads(prompt)
    return (found["messages"], found["tools"]) if isinstance(found, dict) else (found, None)


def make_request(
    messages: Chat, *, sample: int = 0, then: Sequence[str] = (), tools: list[Any] | None = None
) -> Request:
    """Make a request.

    Args:
        messages: A conversation that ends with a user's turn.
        sample: Number of the answer if several are wanted; from 0.
        then: Further user turns.
        tools: Tools that the model may call, as servers take them.

    Example:
        >>> make_request([{"role": "user", "content": "Hi"}]).prompt
        '[{"role":"user","content":"Hi"}]'
    """
    prompt = _written({"messages": messages, "tools": tools} if tools else messages)
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    return Request(prompt, digest, sample, tuple(then))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as the client read it. None = not reported by the server.

    Zero tokens for a nonempty text, or for a prompt, become None: some servers report 0 when they did not count.
    """

    text: str
    finish_reason: str | None = None
    reasoning: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_tokens == 0:
            object.__setattr__(self, "prompt_tokens", None)
        if self.completion_tokens == 0 and (self.text or self.reasoning):
            object.__setattr__(self, "completion_tokens", None)

    @property
    def status(self) -> Status:
        """The status from finish reason and text; see `status_of`."""
        return status_of(self.finish_reason, self.text)

    @property
    def error(self) -> str | None:
        """Why it does not count as an answer; None if it does."""
        return why_ended(self.finish_reason, self.text) if self.status in MISSING else None


@runtime_checkable
class Client(Protocol):
    """Sends requests to one endpoint. `ask` may run many times concurrently, in one event loop."""

    async def ask(self, request: Request) -> Reply:
        """Send a request once, without retries.

        Raises:
            CallError: There is no answer; the error says whether a retry makes sense.
        """
        ...

    async def close(self) -> None:
        """Close connections, free memory."""
        ...


class ScriptedClient:
    """Answers with what a function returns, without a server, for tests and dry runs; its exceptions propagate.

    Args:
        answer: Takes a request, returns a reply or its text. A `CallError` that it raises is treated as
            a server's error.
        latency: Seconds that every answer takes.

    Attributes:
        asked: Every request, in order of arrival.
        peak: The most requests that were open at once.
    """

    def __init__(self, answer: Callable[[Request], Reply | str], *, latency: float = 0.0) -> None:
        self._answer = answer
        self._latency = latency
        self.asked: list[Request] = []
        self.open = 0
        self.peak = 0

    async def ask(self, request: Request) -> Reply:
        """Return the scripted answer."""
        self.asked.append(request)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await asyncio.sleep(self._latency)
            answer = self._answer(request)
        finally:
            self.open -= 1
        return answer if isinstance(answer, Reply) else Reply(answer, "stop")

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


__all__ = [
    "AGAIN",
    "ANSWERED",
    "MISSING",
    "CallError",
    "Client",
    "Reply",
    "Request",
    "ScriptedClient",
    "Status",
    "make_request",
    "request_key",
    "status_of",
]
