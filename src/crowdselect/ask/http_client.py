"""HTTP to models: connections, size limits, error statuses; and a client for any OpenAI-compatible server.

The part shared with served reward models (`reward.served`) comes first. `HttpClient` sends through the `openai` SDK
with its retries and parsing off: lanes retry, and a server may return anything.
"""

import email.utils
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from crowdselect._optional import optional
from crowdselect.ask.calls import Reply, Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError

if TYPE_CHECKING:
    import ssl

    import httpx2

LONGEST = 64 << 20
"""Maximum size of an answer in bytes, decompressed."""
LONGEST_ERROR = 64 << 10
"""Bytes read of an error's body, decompressed."""
CONNECT = 20.0
"""Seconds to connect; the whole answer has a separate timeout."""

_SHARE = 32  # requests in flight per connection pool
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
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value")
_SAYS_UNSUPPORTED = re.compile(r"unsupported (?:parameter|value)|not support", re.IGNORECASE)
_QUOTED = re.compile(r"['\"`]([a-z][a-z_]+)['\"`]")
_LONGEST_MESSAGE = 300
_LONGEST_WAIT = 3600.0  # seconds; a server that asks for a longer wait is left for a later run


def open_transport(
    endpoint: Endpoint, *, on_response: "Callable[[httpx2.Response], Awaitable[None]] | None" = None
) -> "httpx2.AsyncClient":
    """Return an HTTP client for one server; close it with `aclose`, or use it in an `async with`.

    Args:
        endpoint: The server's URL, and the timeout of an answer.
        on_response: Called with the status and headers of every answer.
    """
    import httpx2

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(endpoint.timeout, connect=min(CONNECT, endpoint.timeout), pool=None),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=_SHARE),
        follow_redirects=False,  # answers come from the announced host only
        trust_env=not endpoint.is_loopback,  # a proxy must not see local traffic
        verify=_certificates(),
        event_hooks={"response": [] if on_response is None else [on_response]},
    )


@cache
def _certificates() -> "ssl.SSLContext":
    """Load the trusted certificates, once: it takes longer than a request."""
    import httpx2

    return httpx2.create_ssl_context()


async def read_whole(response: "httpx2.Response") -> bytes:
    """Read an answer chunk by chunk, so that one that is too long is refused early.

    Raises:
        CallError: It is longer than `LONGEST`.
    """
    body = bytearray()  # not a list of chunks: a server may send a byte at a time
    async for chunk in response.aiter_bytes():
        if len(body) + len(chunk) > LONGEST:
            raise CallError(f"the answer is longer than {LONGEST >> 20} MiB", verdict="failed", billed=True)
        body += chunk
    return bytes(body)


async def refusal(response: "httpx2.Response", known: Redactor) -> CallError:
    """Turn an error response into a `CallError`, from its status and the beginning of its body.

    Args:
        response: Not a success; its body is unread.
        known: Removes keys from the message.
    """
    import httpx2

    body = bytearray()
    with suppress(httpx2.HTTPError, httpx2.StreamError):  # the status counts even if the body cannot be read
        async for chunk in response.aiter_bytes():
            body += chunk[:LONGEST_ERROR]
            if len(body) >= LONGEST_ERROR:
                break
    text = known.beginning(bytes(body), LONGEST_ERROR)
    return _status_error(response.status_code, response.headers, text, hide=known.error)


def broken_connection(error: Exception, known: Redactor) -> CallError:
    """Turn a transport error into a `CallError`; it cannot have been billed if no connection was made."""
    import httpx2

    cause = (
        error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
    )  # the SDK's error wraps one
    unconnected = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.ProxyError)
    unsent = isinstance(cause, unconnected)
    what = "cannot connect" if unsent else "the connection broke"
    detail = known.brief(str(cause), 200)
    return CallError(f"{what}: {type(cause).__name__}{f': {detail}' if detail else ''}", billed=not unsent)


@dataclass(slots=True)
class _Share:
    """An SDK client and its number of requests in flight.

    The HTTP library scans all connections of a pool for every request, so large pools are slow.
    """

    client: Any
    open: int = 0


class HttpClient:
    """Sends requests to one endpoint over HTTP.

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
        self._fixed = endpoint.fields()
        # Without a key no Authorization header is sent; the SDK needs this option on every request.
        self._options = {} if key is not None else {"headers": {"Authorization": openai.Omit()}}
        self._shares = [_Share(self._open())]

    def _open(self) -> Any:  # noqa: ANN401  (the SDK's client)
        """Create an SDK client with its own connections."""
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
            CallError: There was no usable answer.
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
        """Raise an error response as `CallError` before the SDK sees it, which would read the whole body."""
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
        """Return the first share with room, so that later ones stay idle when few requests are in flight."""
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


@contextmanager
def _without_ambient_settings() -> Iterator[None]:
    """Hide OPENAI_* while a client is created: it would send their keys, names and headers to any host."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENAI_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def parse_reply(body: bytes, known: Redactor | None = None) -> Reply:
    """Parse the JSON of a chat completion.

    Args:
        body: The response body.
        known: Removes keys from messages; None = there are none.

    Raises:
        CallError: It is not a chat completion; it may have been billed all the same.

    Example:
        >>> parse_reply(b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}').text
        'Hi'
    """
    try:
        completion = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CallError(f"the answer is not UTF-8 text (byte {error.start + 1})", billed=True) from error
    except (ValueError, RecursionError) as error:
        raise CallError(
            f"the answer is not JSON: it begins with {_excerpt(body, known)}", billed=True
        ) from error
    choices = completion.get("choices") if isinstance(completion, dict) else None
    _check_error(completion, choices)
    if not isinstance(choices, list):
        raise CallError(f"the answer has no choices: it begins with {_excerpt(body, known)}", billed=True)
    if not choices:
        raise CallError("the answer's list of choices is empty", billed=True)
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise CallError(f"the answer has no message: it begins with {_excerpt(body, known)}", billed=True)
    finish = choices[0].get("finish_reason")
    usage = completion.get("usage")
    return Reply(
        _content(message),
        finish if isinstance(finish, str) else None,
        _reasoning(message),
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def _check_error(completion: Any, choices: Any) -> None:  # noqa: ANN401  (any JSON)
    """Raise an error that a server reports with HTTP 200, in the body or in the choice, by the server's error code.

    Raises:
        CallError: There is such an error; if it came with a choice, it may have been billed.
    """
    first = choices[0] if isinstance(choices, list) and choices else None
    for holder in (first, completion):
        error = holder.get("error") if isinstance(holder, dict) else None
        if not error:
            continue
        code = str(error.get("code")) if isinstance(error, dict) else ""
        text, billed = json.dumps({"error": error}), first is not None
        if code.isdecimal() and 400 <= int(code) <= 599:
            raise _status_error(int(code), {}, text, billed=billed, inside=True)
        told = _explained(text)
        slow = "rate_limit" in told.codes
        raise CallError(
            f"the server reports an error: {told.message[:_LONGEST_MESSAGE]}",
            verdict="refused" if slow else "retry",
            billed=billed,
        )


def _content(message: Mapping[str, Any]) -> str:
    """Return the text of a message; null becomes an empty answer, parts are concatenated."""
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
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return reasoning if isinstance(reasoning, str) else None


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
    """Turn an error status (of HTTP, or inside an HTTP 200 answer) into a `CallError` with a verdict."""
    told = _explained(text)
    codes, message = told.codes, hide(told.message)[:_LONGEST_MESSAGE]
    summary = f"HTTP 200 with error {status}" if inside else f"HTTP {status}"
    summary = f"{summary}: {message}" if message else summary
    if any(code in codes for code in _FILTERS) and status in {400, 403, 422}:
        return CallError(summary, verdict="filtered", billed=billed)
    if status in _STOP or any(code in codes for code in _SPENT):
        why = _STOP.get(status, "the account's quota is used up")
        return CallError(f"{summary} ({why})", verdict="stop", billed=billed)
    if 300 <= status < 400:
        return CallError(
            f"{summary} (the server redirects to another place; correct base_url)", verdict="failed"
        )
    if status in _SLOW or status in _RETRIED or status >= 500:
        after = _retry_after(headers)
        if after is not None and after > _LONGEST_WAIT:
            return CallError(f"{summary} (it asks to wait for {after:.0f} s)", verdict="stop")
        verdict = "refused" if status in _SLOW else "retry"
        return CallError(summary, verdict=verdict, retry_after=after, billed=billed)
    return CallError(summary, verdict="failed", billed=billed, parameter=_unsupported(told))


class _Explained(NamedTuple):
    """What an error's body says: a message on one line, codes in lower case, and the field it is about."""

    message: str
    codes: str
    parameter: str | None


def _unsupported(told: _Explained) -> str | None:
    """Name the field that a server does not support: gateways drop the code or the field, and leave the message."""
    if not (any(code in told.codes for code in _UNSUPPORTED) or _SAYS_UNSUPPORTED.search(told.message)):
        return None
    quoted = _QUOTED.search(told.message)
    return told.parameter or (quoted[1] if quoted else None)


def _explained(text: str) -> _Explained:
    message, codes, parameter = text, "", None
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
        parameter = error.get("param")
    elif isinstance(error, str):
        message = error
    return _Explained(
        " ".join(message.split()), codes.lower(), parameter if isinstance(parameter, str) else None
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, from a header in milliseconds, in seconds or as a date; None if there is none."""
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
