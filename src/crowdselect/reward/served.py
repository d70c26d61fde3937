"""A reward model behind HTTP: asked with retries, several at once, with nothing but the standard library."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import LONGEST, LONGEST_ERROR
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError, OptionError
from crowdselect.reward.crew import Crew, Deadline, PlainHandler, SecureHandler
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.shapes import APIS, Api, Written, rewards
from crowdselect.reward.specs import Spec

_AT_ONCE = 16  # conversations in one request; text-embeddings-inference takes 32 at most by default
_ATTEMPTS = 6
_LONGEST_WAIT = 60.0
_LONGEST_TIMEOUT = 86_400.0
_SILENCE = 32  # requests without an answer, each tried several times, before the run ends
_STOP = {401: "the key is refused", 403: "access is forbidden", 404: "not found", 405: "not allowed"}
_TOO_MUCH = frozenset({400, 413, 422})  # one conversation of a batch may be to blame


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOptions:
    """How a served model is asked.

    Attributes:
        api: One of `shapes.APIS`, or `auto`.
        tokenizer: Name or path of the model's tokenizer: conversations are written and cut on this side.
        concurrency: Requests at once.
        api_key_env: The environment variable that holds the key; None = no key is sent.
        max_length: The most tokens of a conversation.
        timeout: Seconds that one answer may take, to its last byte.
    """

    api: str = "auto"
    tokenizer: str | None = None
    concurrency: int = 16
    api_key_env: str | None = None
    max_length: int | None = None
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if self.api not in {"auto", *APIS}:
            raise OptionError(f"--api {self.api!r} is unknown; choose one of: auto, {', '.join(APIS)}")
        if self.concurrency < 1:
            raise OptionError(f"--concurrency {self.concurrency} is below 1")
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise OptionError(
                f"--timeout {self.timeout:g}: wanted seconds above 0, at most {_LONGEST_TIMEOUT:g}"
            )


class ServedScorer(BaseScorer):
    """`http:URL`: vLLM's or text-embeddings-inference's reward of a conversation, raw."""

    def __init__(self, spec: Spec, options: ServedOptions, *, wait: float = 1.0) -> None:
        """Ask nothing yet; `wait` is how many seconds pass before the first retry."""
        settings = {
            "kind": "http",
            "model": spec.part or spec.target,
            "api": options.api,
            "tokenizer": options.tokenizer,
            "max_length": options.max_length,
        }
        super().__init__(spec.text, settings)
        self._model, self._options, self._wait = spec.part, options, wait
        last = urlsplit(spec.target).path.rsplit("/", 1)[-1]
        self._base = spec.target.removesuffix(f"/{last}") if last in APIS else spec.target
        self._named = options.api if options.api != "auto" else last if last in APIS else None
        self._key = _key(self._base, options.api_key_env)
        self._known = Redactor({str(options.api_key_env): self._key or ""})
        self._open = _opener(self._base)
        self._ending = Event()
        self._range = [float("inf"), float("-inf")]
        self._count = 0

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Ask for some at a time; see `Scorer.score`."""
        written = self._written(items)
        refused = [
            (at, Outcome(reason=one.reason)) for at, one in enumerate(written) if one.reason is not None
        ]
        if refused:
            yield refused
        places = [at for at, one in enumerate(written) if one.reason is None]
        if not places:
            return
        api = self._api
        size = _AT_ONCE if api.whole([written[places[0]]]) else 1
        groups = [places[begin : begin + size] for begin in range(0, len(places), size)]
        self._ending.clear()
        crew: Crew[list[int], list[Outcome]] = Crew(
            self._options.concurrency,
            lambda group: self._ask(api, [written[at] for at in group]),
            ending=self._ending,
        )
        silent = 0
        for group, outcomes in crew.run(groups):
            scored = list(zip(group, outcomes, strict=True))
            if self._ending.is_set():  # what was not tried to its end is left for the next run
                yield [(at, one) for at, one in scored if not one.passing]
                continue
            yield scored
            silent = silent + 1 if all(one.passing for one in outcomes) else 0
            if silent >= _SILENCE:
                raise CallError(
                    f"{self._base}: {silent} requests in a row had no answer (last: {outcomes[0].reason}); run the same "
                    "command again, with --retry-failed, once it answers",
                    verdict="stop",
                )

    def close(self) -> None:
        """Doubt scores that look as if an activation had been applied."""
        low, high = self._range
        if self._count >= 8 and low >= 0 and high <= 1:
            self.notes.append(
                f"all {self._count} scores are between 0 and 1 although raw ones were asked for: the server may apply an "
                "activation (for vLLM, set it off in its pooler configuration)"
            )

    @cached_property
    def _api(self) -> Api:
        """The way of asking: given, said by the URL, or the first that the server knows."""
        if self._named is not None:
            return APIS[self._named]
        try:
            info = self._send("/info", None)
        except CallError:
            info = None
        if isinstance(info, dict) and "model_id" in info:  # text-embeddings-inference says what it serves
            return APIS["predict"]
        probe = [Written([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])]
        tried = []
        for name in ("classify", "pooling", "score", "predict"):
            api = APIS[name]
            try:
                rewards(api, self._retried(api.path, self._body(api, probe)), 1, known=self._known)
            except CallError as error:
                tried.append(f"{api.path}: {error}")
                continue
            self.notes.append(f"asked at {api.path}")
            return api
        raise OptionError(
            f"{self._base}: no way of asking for a reward works ({'; '.join(tried)[:600]}); name it with --api"
        )

    @cached_property
    def _writer(self) -> Any:  # noqa: ANN401  (a card, whose module imports transformers)
        from crowdselect.reward.remote_text import Writer

        return Writer(self._options.tokenizer or "", max_length=self._options.max_length)

    def _written(self, items: Sequence[Item]) -> list[Written]:
        if self._options.tokenizer is None:
            return [Written(item.messages) for item in items]
        written: list[Written] = self._writer.write(items)
        return written

    def _body(self, api: Api, some: Sequence[Written]) -> dict[str, Any]:
        body = api.body(some, self._options.max_length)
        return body if self._model is None or api.path == "/predict" else {**body, "model": self._model}

    def _ask(self, api: Api, some: Sequence[Written]) -> list[Outcome]:
        """Ask for some; where they are refused together, one by one."""
        try:
            answer = self._retried(api.path, self._body(api, some))
            numbers = rewards(api, answer, len(some), known=self._known)
        except CallError as error:
            if error.verdict == "stop":
                raise CallError(f"{self._base}: {error}", verdict="stop") from error
            if len(some) > 1 and error.verdict == "failed":
                return [outcome for one in some for outcome in self._ask(api, [one])]
            return [Outcome(reason=str(error), passing=error.verdict != "failed")] * len(some)
        self._count += len(numbers)
        self._range = [min(self._range[0], *numbers), max(self._range[1], *numbers)]
        return [
            outcome_of(number, truncated=one.truncated) for number, one in zip(numbers, some, strict=True)
        ]

    def _retried(self, path: str, body: object) -> Any:  # noqa: ANN401  (parsed JSON)
        wait = self._wait
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._send(path, body)
            except CallError as error:
                if error.verdict not in {"retry", "refused"} or attempt == _ATTEMPTS:
                    raise
                if self._ending.wait(min(error.retry_after or wait, _LONGEST_WAIT)):
                    raise
                wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError("unreachable")

    def _send(self, path: str, body: object) -> Any:  # noqa: ANN401  (parsed JSON)
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json"} | (
            {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        )
        request = urllib.request.Request(f"{self._base}{path}", data=data, headers=headers)  # noqa: S310  (http or https, see specs)
        answer = self._exchange(request)
        if len(answer) > LONGEST:
            raise CallError(f"the answer is longer than {LONGEST >> 20} MiB", verdict="failed")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise CallError(f"the answer is not JSON ({self._known.brief(str(error), 80)})") from error

    def _exchange(self, request: urllib.request.Request) -> bytes:
        """Send a request and read its answer, all of it within the timeout."""
        with Deadline(self._options.timeout) as deadline:
            try:
                with self._open.open(request, timeout=self._options.timeout) as response:
                    answer: bytes = response.read(
                        LONGEST + 1
                    )  # packed ones are not asked for and not unpacked
            except urllib.error.HTTPError as error:
                raise self._refused(error) from error
            except (OSError, HTTPException, ValueError) as error:
                if not deadline.passed:
                    detail = self._known.brief(str(getattr(error, "reason", None) or error), 200)
                    raise CallError(f"no answer: {detail or type(error).__name__}") from error
            if deadline.passed:
                raise CallError(f"no whole answer within {self._options.timeout:g} s")
        return answer

    def _refused(self, error: urllib.error.HTTPError) -> CallError:
        """Read an error's body, as far as it comes."""
        body = b""
        with error, suppress(OSError, HTTPException, ValueError):
            body = error.read(LONGEST_ERROR)
        return self._status(error.code, error.headers.get("Retry-After"), body)

    def _status(self, code: int, after: str | None, body: bytes) -> CallError:
        said = self._known.brief(self._known.beginning(body, LONGEST_ERROR), 300)
        text = f"HTTP {code}: {said}" if said else f"HTTP {code}"
        if code in _STOP:
            return CallError(f"{text} ({_STOP[code]})", verdict="stop")
        if code in _TOO_MUCH or 300 <= code < 400:
            return CallError(text, verdict="failed")
        wait = float(after) if after is not None and after.replace(".", "", 1).isdigit() else None
        return CallError(text, verdict="retry", retry_after=wait)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer comes from the host that was named, or not at all."""

    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401  (what urllib passes)
        """Follow nothing."""


def _opener(url: str) -> urllib.request.OpenerDirector:
    # A proxy must not see what is meant for this machine.
    proxies = [urllib.request.ProxyHandler({})] if _is_loopback(url) else []
    return urllib.request.build_opener(_NoRedirect, PlainHandler, SecureHandler, *proxies)


def _key(url: str, variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value or not (value.isascii() and value.isprintable()):
        raise OptionError(f"--api-key-env {variable}: the environment variable is not set, or holds no key")
    if url.startswith("http://") and not _is_loopback(url):
        raise OptionError(
            f"--api-key-env: a key over plain http goes to this machine only, not to {url}; use https"
        )
    return value


def _is_loopback(url: str) -> bool:
    return Endpoint("reward", base_url=url).is_loopback
