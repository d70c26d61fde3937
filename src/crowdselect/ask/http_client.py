"""HTTP to models: connections, how much is read, what a status means; and a client for any OpenAI-compatible server.

What is shared with served reward models (`reward.served`) comes first. `HttpClient` sends through the `openai` SDK,
which neither retries nor parses here: retries are the lane's business, and what comes back may be anything.
"""

import email.utils
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from crowdselect._optional import optional
from crowdselect.ask.calls import Reply, Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError

if TYPE_CHECKING:
    import ssl

    import httpx2

LONGEST = 64 << 20
"""Bytes of the longest answer that is read, unpacked."""
LONGEST_ERROR = 64 << 10
"""Bytes of an error that are read, unpacked."""
CONNECT = 20.0
"""Seconds for a connection; the whole answer has a timeout of its own."""

_SHARE = 32  # requests in flight through one pool of connections
_STOP = {
    401: "the key is refused",
    402: "payment is required",
    403: "access is forbidden",
    404: "not found",
    405: "not allowed",
}
_SLOW = frozenset({429, 503, 529})
_RETRIED = frozenset({408, 409, 425})
_FILTERS = ("content_filter", "responsibleaipolicyviolation", "content_policy_violation")
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")
_LONGEST_MESSAGE = 300
_LONGEST_WAIT = 3600.0  # a server that asks for more is left for a later run


def open_transport(
    endpoint: Endpoint, *, on_response: "Callable[[httpx2.Response], Awaitable[None]] | None" = None
) -> "httpx2.AsyncClient":
    """Open the connections to one server; close them with `aclose`, or use them in an `async with`.

    Args:
        endpoint: Where the server is, and how many seconds one answer may take.
        on_response: Called with the head of every answer.
    """
    import httpx2

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(endpoint.timeout, connect=min(CONNECT, endpoint.timeout), pool=None),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=_SHARE),
        follow_redirects=False,  # an answer comes from the host that was announced, or not at all
        trust_env=not endpoint.is_loopback,  # a proxy must not see what is meant for this machine
        verify=_certificates(),
        event_hooks={"response": [] if on_response is None else [on_response]},
    )


@cache
def _certificates() -> "ssl.SSLContext":
    """Read the certificates that hosts are checked against: once, for it takes longer than a request."""
    import httpx2

    return httpx2.create_ssl_context()


async def read_whole(response: "httpx2.Response") -> bytes:
    """Read an answer piece by piece, so that its size is known before it is all here.

    Raises:
        CallError: It is longer than `LONGEST`.
    """
    body = bytearray()  # not a list of pieces: a server may send a byte at a time
    async for piece in response.aiter_bytes():
        if len(body) + len(piece) > LONGEST:
            raise CallError(f"the answer is longer than {LONGEST >> 20} MiB", verdict="failed", billed=True)
        body += piece
    return bytes(body)


async def refusal(response: "httpx2.Response", known: Redactor) -> CallError:
    """Say what an answer that is none means, from its status and the beginning of its body.

    Args:
        response: Not a success; its body was not read yet.
        known: Knows the keys that no message may show.
    """
    import httpx2

    body = bytearray()
    with suppress(httpx2.HTTPError, httpx2.StreamError):  # the status counts, whatever is with its body
        async for piece in response.aiter_bytes():
            body += piece[:LONGEST_ERROR]
            if len(body) >= LONGEST_ERROR:
                break
    text = known.beginning(bytes(body), LONGEST_ERROR)
    return _status_error(response.status_code, response.headers, text, hide=known.error)


def broken_connection(error: Exception, known: Redactor) -> CallError:
    """Say what broke; before the connection stood nothing can have been paid."""
    import httpx2

    cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error  # the SDK's wraps one
    before = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.ProxyError)
    unsent = isinstance(cause, before)
    what = "cannot connect" if unsent else "the connection broke"
    detail = known.brief(str(cause), 200)
    return CallError(f"{what}: {type(cause).__name__}{f': {detail}' if detail else ''}", billed=not unsent)


@dataclass(slots=True)
class _Share:
    """A client of the SDK and how many requests it has in flight.

    The HTTP library looks through all connections of a pool for every request, so many in one are slow.
    """

    client: Any
    open: int = 0


class HttpClient:
    """Asks one endpoint over HTTP.

    Args:
        endpoint: With a `base_url`.
        key: None = no key is sent.
    """

    def __init__(self, endpoint: Endpoint, *, key: str | None) -> None:
        openai = optional("openai", extra="collect")
        self._openai = openai
        self._endpoint = endpoint
        self._key = key or ""
        self._known = Redactor({str(endpoint.api_key_env): self._key})
        self._fixed = _fixed_fields(endpoint)
        # Without a key no Authorization header is sent at all; the SDK wants this said with every request.
        self._options = {} if key is not None else {"headers": {"Authorization": openai.Omit()}}
        self._shares = [_Share(self._open())]

    def _open(self) -> Any:  # noqa: ANN401  (the SDK's client)
        """Make a client of the SDK with connections of its own."""
        endpoint = self._endpoint
        transport = open_transport(endpoint, on_response=self._refuse)
        with _without_ambient_settings():
            return self._openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=endpoint.base_url,
                max_retries=0,
                timeout=transport.timeout,
                http_client=transport,
            )

    async def close(self) -> None:
        """Close the connections."""
        for share in self._shares:
            await share.client.close()

    async def ask(self, request: Request) -> Reply:
        """Send one request and read its answer.

        Raises:
            CallError: No usable answer came.
        """
        import httpx2

        try:
            body = await self._send(self._body(request))
        except self._openai.APITimeoutError as error:
            connected = not isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise CallError("the connection timed out", billed=connected) from error
        except (self._openai.APIConnectionError, httpx2.HTTPError, httpx2.StreamError) as error:
            if isinstance(error.__cause__, CallError):
                raise error.__cause__ from None
            raise broken_connection(error, self._known) from error
        return parse_reply(self._known.body(body), self._known)

    async def _refuse(self, response: "httpx2.Response") -> None:
        """Raise what an error's status means before the SDK sees it, which would read the whole of its body."""
        if not response.is_success:
            raise await refusal(response, self._known)

    async def _send(self, content: bytes) -> bytes:
        share = self._share()
        share.open += 1
        try:
            return await self._exchange(share.client, content)
        finally:
            share.open -= 1

    def _share(self) -> _Share:
        """Take the first share that has room; the later ones rest when little is asked at once."""
        for share in self._shares:
            if share.open < _SHARE:
                return share
        self._shares.append(_Share(self._open()))
        return self._shares[-1]

    async def _exchange(self, client: Any, content: bytes) -> bytes:  # noqa: ANN401  (the SDK's client)
        import httpx2

        response = await client.post(
            "/chat/completions",
            content=content,
            cast_to=httpx2.Response,
            options=self._options,
            stream=True,
            stream_cls=self._openai.AsyncStream[Any],
        )
        try:
            return await read_whole(response)
        finally:
            await response.aclose()

    def _body(self, request: Request) -> bytes:
        messages = request.messages()
        endpoint = self._endpoint
        if endpoint.system is not None:
            messages = [{"role": "system", "content": endpoint.system}, *messages]
        fields: dict[str, Any] = {"model": endpoint.model, "messages": messages, **self._fixed}
        tools = request.tools()
        if tools is not None:
            fields["tools"] = tools
        if endpoint.seed is not None:
            fields["seed"] = endpoint.seed + request.sample  # the same seed would give the same answer
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _fixed_fields(endpoint: Endpoint) -> dict[str, Any]:
    names = ("temperature", "top_p", "max_tokens")
    found = {name: getattr(endpoint, name) for name in names if getattr(endpoint, name) is not None}
    return {**found, **endpoint.extra_body}


@contextmanager
def _without_ambient_settings() -> Iterator[None]:
    """Hide OPENAI_* while a client is made: it would send their keys, names and headers to any host."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def parse_reply(body: bytes, known: Redactor | None = None) -> Reply:
    """Read the JSON of a chat completion.

    Args:
        body: As it came.
        known: Knows the keys that no message may show; None = there are none.

    Raises:
        CallError: It is not one; it may have been paid for all the same.

    Example:
        >>> parse_reply(b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}').text
        'Hi'
    """
    try:
        found = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CallError(f"the answer is not UTF-8 text (byte {error.start + 1})", billed=True) from error
    except (ValueError, RecursionError) as error:
        raise CallError(
            f"the answer is not JSON: it begins with {_excerpt(body, known)}", billed=True
        ) from error
    choices = found.get("choices") if isinstance(found, dict) else None
    _check_error(found, choices)
    if not isinstance(choices, list):
        raise CallError(f"the answer has no choices: it begins with {_excerpt(body, known)}", billed=True)
    if not choices:
        raise CallError("the answer's list of choices is empty", billed=True)
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise CallError(f"the answer has no message: it begins with {_excerpt(body, known)}", billed=True)
    finish = choices[0].get("finish_reason")
    usage = found.get("usage")
    return Reply(
        _content(message),
        finish if isinstance(finish, str) else None,
        _reasoning(message),
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _check_error(found: Any, choices: Any) -> None:  # noqa: ANN401  (any JSON)
    """Raise the error that a server reports with HTTP 200, in the body or in the choice, by its own code.

    Raises:
        CallError: There is one; where text came with it, that may have been paid for.
    """
    first = choices[0] if isinstance(choices, list) and choices else None
    for place in (first, found):
        error = place.get("error") if isinstance(place, dict) else None
        if not error:
            continue
        code = str(error.get("code")) if isinstance(error, dict) else ""
        text, billed = json.dumps({"error": error}), first is not None
        if code.isdecimal() and 400 <= int(code) <= 599:
            raise _status_error(int(code), {}, text, billed=billed, inside=True)
        message, codes = _explained(text)
        slow = "rate_limit" in codes
        raise CallError(
            f"the server reports an error: {message[:_LONGEST_MESSAGE]}",
            verdict="refused" if slow else "retry",
            billed=billed,
        )


def _content(message: Mapping[str, Any]) -> str:
    """Give the text of a message; null is an empty answer, parts are put together."""
    content = message.get("content")
    if content is None:
        content = message.get("refusal") or ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(content, str):
        raise CallError(f"the answer's content is not text but {type(content).__name__}", billed=True)
    return content


def _reasoning(message: Mapping[str, Any]) -> str | None:
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else None


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 53 else None


def _status_error(
    status: int,
    headers: Mapping[str, str],
    text: str,
    *,
    hide: Callable[[str], str] = str,
    billed: bool = False,
    inside: bool = False,
) -> CallError:
    """Say what a status means for the request and for the endpoint: HTTP's, or one inside an answer of HTTP 200."""
    message, codes = _explained(text)
    message = hide(message)[:_LONGEST_MESSAGE]
    said = f"HTTP 200 with error {status}" if inside else f"HTTP {status}"
    said = f"{said}: {message}" if message else said
    if any(code in codes for code in _FILTERS) and status in {400, 403, 422}:
        return CallError(said, verdict="filtered", billed=billed)
    if status in _STOP or any(code in codes for code in _SPENT):
        why = _STOP.get(status, "the account's quota is used up")
        return CallError(f"{said} ({why})", verdict="stop", billed=billed)
    if 300 <= status < 400:
        return CallError(
            f"{said} (the server redirects to another place; correct base_url)", verdict="failed"
        )
    if status in _SLOW or status in _RETRIED or status >= 500:
        after = _retry_after(headers)
        if after is not None and after > _LONGEST_WAIT:
            return CallError(f"{said} (it asks to wait for {after:.0f} s)", verdict="stop")
        verdict = "refused" if status in _SLOW else "retry"
        return CallError(said, verdict=verdict, retry_after=after, billed=billed)
    return CallError(said, verdict="failed", billed=billed)


def _explained(text: str) -> tuple[str, str]:
    """Give an error body's message on one line, and its codes in lower case."""
    message, codes = text, ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    error = found.get("error", found) if isinstance(found, dict) else None
    if isinstance(error, dict):
        message = str(error.get("message") or error.get("detail") or text)
        inner = error.get("innererror")
        codes = " ".join(str(error.get(name)) for name in ("code", "type"))
        codes += f" {inner.get('code')}" if isinstance(inner, dict) else ""
    elif isinstance(error, str):
        message = error
    return " ".join(message.split()), codes.lower()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long to wait: milliseconds, seconds or a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _until(date: str) -> float:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return -1.0


def _excerpt(body: bytes, known: Redactor | None) -> str:
    return repr((known or Redactor({})).brief(body.decode("utf-8", "replace"), 80))
