"""A reward model behind HTTP: concurrent requests with retries, through the HTTP layer of `ask`."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crowdselect.ask.ask import SAME_STOP
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.http_client import broken_connection, open_transport, read_whole, refusal
from crowdselect.ask.redact import Redactor
from crowdselect.errors import CallError, OptionError
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.shapes import APIS, Api, SeveralNumbersError, Writer, Written, rewards
from crowdselect.reward.specs import ENDPOINTS, Spec

if TYPE_CHECKING:
    import httpx2

GRACE = 1.5
"""Seconds to wait for requests in flight after Ctrl-C, or after an error that ends the run."""
_CLOSING = 0.5  # seconds for connections to close
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE = 16  # conversations per request; text-embeddings-inference takes at most 32 by default
_ATTEMPTS = 6
_LONGEST_WAIT = 60.0
_LONGEST_TIMEOUT = 86_400.0
_SILENCE = 32  # consecutive requests without an answer, each retried, before the run ends

_SGLANG = "input_ids or input_embeds"  # in its refusal of a request without a text
_RERANKS = ("rerank", "reranking")
_RERANK = (
    "a rerank server (such as llama.cpp's) gives the relevance of documents to a query, written with a template of its own, "
    "and no reward of a conversation; serve the model with vLLM, SGLang or text-embeddings-inference"
)

Tools = TypeVar("Tools")
Job = TypeVar("Job")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOptions:
    """How a served model is asked.

    Attributes:
        api: One of `shapes.APIS`, or `auto`.
        tokenizer: Name or path of the model's tokenizer: conversations are tokenized and truncated by the client.
        concurrency: Maximum number of requests in flight.
        api_key_env: The environment variable that holds the key; None = no key is sent.
        max_length: Maximum tokens of a conversation; None = the server's or the tokenizer's limit.
        timeout: Seconds allowed for one answer, to its last byte.
    """

    api: str = "auto"
    tokenizer: str | None = None
    concurrency: int = 16
    api_key_env: str | None = None
    max_length: int | None = None
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if self.api not in {"auto", *APIS}:
            raise OptionError(f"`api` {self.api!r} is unknown; choose one of: auto, {', '.join(APIS)}")
        if self.concurrency < 1:
            raise OptionError(f"`concurrency` {self.concurrency} is below 1")
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise OptionError(
                f"`timeout` {self.timeout:g}: wanted seconds above 0, at most {_LONGEST_TIMEOUT:g}"
            )


class ServedScorer(BaseScorer):
    """`http:URL`: vLLM's, SGLang's or text-embeddings-inference's reward of a conversation, raw."""

    def __init__(self, spec: Spec, options: ServedOptions, *, wait: float = 1.0) -> None:
        """Prepare without sending anything; `wait` is the seconds before the first retry."""
        settings = {
            "kind": "http",
            "model": spec.part or spec.target,
            "api": options.api,
            "tokenizer": options.tokenizer,
            "max_length": options.max_length,
        }
        super().__init__(spec.text, settings)
        self._model, self._options, self._wait = spec.part, options, wait
        self._base, last = _place(spec)
        self._named = options.api if options.api != "auto" else last
        if self._named == "sglang":
            self._check_tokenizer()
        self._endpoint = Endpoint("reward", base_url=self._base, timeout=options.timeout)
        self._key = _key(self._endpoint, options.api_key_env)
        self._known = Redactor({str(options.api_key_env): self._key or ""})
        self._range = [float("inf"), float("-inf")]
        self._count = 0

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score in groups, several requests at once; see `Scorer.score`."""
        written = self._written(items)
        refused = [
            (at, Outcome(reason=entry.reason)) for at, entry in enumerate(written) if entry.reason is not None
        ]
        if refused:
            yield refused
        scorable = [at for at, entry in enumerate(written) if entry.reason is None]
        if not scorable:
            return
        api = self._api
        size = _AT_ONCE if api.whole([written[scorable[0]]]) else 1
        groups = [scorable[begin : begin + size] for begin in range(0, len(scorable), size)]

        async def ask(exchange: _Exchange, group: list[int]) -> list[Outcome]:
            return await self._ask(exchange, api, [written[at] for at in group])

        crew = self._crew(self._options.concurrency, ask)
        silent = 0
        for group, outcomes in crew.run(groups):
            scored = list(zip(group, outcomes, strict=True))
            if crew.is_ending:  # interrupted retries are left for the next run
                yield [(at, entry) for at, entry in scored if not entry.passing]
                continue
            yield scored
            silent = silent + 1 if all(entry.passing for entry in outcomes) else 0
            if silent >= _SILENCE:
                raise CallError(
                    f"{self._base}: {silent} requests in a row had no answer (last: {outcomes[0].reason}); run the same "
                    "command again, with `retry_failed=True`, once it answers",
                    verdict="stop",
                )

    def close(self) -> None:
        """Add a note if the scores look as if an activation had been applied."""
        low, high = self._range
        if self._count >= 8 and low >= 0 and high <= 1:
            self.notes.append(
                f"all {self._count} scores are between 0 and 1 although raw ones were asked for: the server may apply an "
                "activation (for vLLM, set it off in its pooler configuration)"
            )

    @cached_property
    def _api(self) -> Api:
        """The API: the option's, the URL's, or the first that the server supports."""
        if self._named is not None:
            return APIS[self._named]

        async def find(exchange: _Exchange, _job: None) -> Api:
            return await self._found(exchange)

        ((_, api),) = self._crew(1, find).run([None])
        return api

    async def _found(self, exchange: "_Exchange") -> Api:
        """Try the APIs, one after the other."""
        try:
            info = await exchange.send("/info", None)
        except CallError:
            info = None
        if isinstance(info, dict) and "model_id" in info:  # text-embeddings-inference identifies itself
            return APIS["predict"]
        probe = [
            Written([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], text="Hi")
        ]
        tried: dict[str, str] = {}
        for name in ("classify", "sglang", "pooling", "score", "predict"):
            api = APIS[name]
            try:
                answer = await exchange.retried(api.path, self._body(api, probe), wait=self._wait)
                rewards(api, answer, 1, known=self._known)
            except SeveralNumbersError as error:
                raise OptionError(f"{self._base}: {error}") from error
            except CallError as error:
                tried[api.path] = str(error)
                continue
            if name == "sglang":
                self._check_tokenizer()
            self.notes.append(f"asked at {api.path}{' of SGLang' if name == 'sglang' else ''}")
            return api
        await self._refuse_rerank(exchange)
        same = set(tried.values())
        told = (
            f"{same.pop()}, at {', '.join(tried)}"
            if len(same) == 1
            else "; ".join(f"{path}: {error}" for path, error in tried.items())
        )
        raise OptionError(
            f"{self._base}: no way of asking for a reward works ({told[:600]}); check the address and that the server is up, "
            "or name the way with `api`"
        )

    async def _refuse_rerank(self, exchange: "_Exchange") -> None:
        """Refuse a server, such as llama.cpp's, that only orders documents for a query."""
        with suppress(CallError):
            answer = await exchange.send("/v1/rerank", {"query": "Hi", "documents": ["Hello"]})
            if isinstance(answer, dict) and "results" in answer:
                raise OptionError(f"{self._base}: {_RERANK}")

    def _check_tokenizer(self) -> None:
        if self._options.tokenizer is None:
            raise OptionError(
                f"{self._base}: SGLang's /classify applies no chat template, so conversations are written here: name the "
                "served model's tokenizer with `tokenizer` (a name or a folder)"
            )

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self._options.tokenizer or "", max_length=self._options.max_length)

    def _written(self, items: Sequence[Item]) -> list[Written]:
        if self._options.tokenizer is None:
            return [Written(item.messages) for item in items]
        return self._writer.write(items)

    def _body(self, api: Api, some: Sequence[Written]) -> dict[str, Any]:
        body = api.body(some, self._options.max_length)
        return body if self._model is None or api.path == "/predict" else {**body, "model": self._model}

    async def _ask(self, exchange: "_Exchange", api: Api, some: Sequence[Written]) -> list[Outcome]:
        """Score some conversations; if they are refused together, one by one."""
        try:
            answer = await exchange.retried(api.path, self._body(api, some), wait=self._wait)
            numbers = rewards(api, answer, len(some), known=self._known)
        except CallError as error:
            if error.verdict == "stop":
                raise CallError(f"{self._base}: {error}", verdict="stop") from error
            if api is APIS["classify"] and _SGLANG in str(error):
                raise OptionError(f"{self._base}: this /classify is SGLang's; pass `api=sglang`") from error
            passing = error.verdict in {"retry", "refused"}
            if len(some) > 1 and not passing:
                return [outcome for one in some for outcome in await self._ask(exchange, api, [one])]
            return [Outcome(reason=str(error), passing=passing)] * len(some)
        self._count += len(numbers)
        self._range = [min(self._range[0], *numbers), max(self._range[1], *numbers)]
        return [
            outcome_of(number, truncated=one.truncated) for number, one in zip(numbers, some, strict=True)
        ]

    def _crew(
        self, count: int, work: "Callable[[_Exchange, Job], Awaitable[Made]]"
    ) -> "Crew[_Exchange, Job, Made]":
        """Make a crew whose jobs share connections to the server."""
        ending = asyncio.Event()

        @asynccontextmanager
        async def connected() -> AsyncIterator[_Exchange]:
            async with open_transport(self._endpoint) as transport:
                yield _Exchange(transport, self._endpoint, self._key, self._known, ending)

        return Crew(count, connected, work, ending=ending)


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Sends requests to the server and parses its answers."""

    transport: "httpx2.AsyncClient"
    endpoint: Endpoint
    key: str | None
    known: Redactor
    ending: asyncio.Event

    async def retried(self, path: str, body: object, *, wait: float) -> Any:  # noqa: ANN401  (parsed JSON)
        """Send a request, with retries; pauses start at `wait` seconds and double.

        Raises:
            CallError: There is no answer.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self.send(path, body)
            except CallError as error:
                if error.verdict not in {"retry", "refused"} or attempt == _ATTEMPTS:
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(error.retry_after or wait, _LONGEST_WAIT)):
                        await self.ending.wait()
                if self.ending.is_set():
                    raise
                wait = min(2 * wait, _LONGEST_WAIT)
        raise AssertionError("unreachable")

    async def send(self, path: str, body: object) -> Any:  # noqa: ANN401  (parsed JSON)
        """Send a request and read its whole answer within the timeout.

        Raises:
            CallError: There is no answer.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        seconds = self.endpoint.timeout
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(path, content)
        except TimeoutError as error:
            raise CallError(f"no whole answer within {seconds:g} s") from error
        try:
            return json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise CallError(f"the answer is not JSON ({self.known.brief(str(error), 80)})") from error

    async def _answer(self, path: str, content: bytes | None) -> bytes:
        import httpx2

        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        method, url = "GET" if content is None else "POST", f"{self.endpoint.base_url}{path}"
        try:
            async with self.transport.stream(method, url, content=content, headers=headers) as response:
                if not response.is_success:
                    raise await refusal(response, self.known)
                return await read_whole(response)
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            raise broken_connection(error, self.known) from error


class Crew(Generic[Tools, Job, Made]):
    """Runs jobs concurrently in an event loop in a separate thread; use it once.

    The thread does not keep the process alive: after Ctrl-C or an error the process waits at most `GRACE` seconds for
    the server. It also works if the caller's thread already runs an event loop, as in a notebook.

    Args:
        count: Number of jobs at once.
        tools: Opened in the loop before the first job, and closed after the last.
        work: Does one job with the tools.
        ending: Set when no further job may start and pauses must end.
    """

    def __init__(
        self,
        count: int,
        tools: Callable[[], AbstractAsyncContextManager[Tools]],
        work: Callable[[Tools, Job], Awaitable[Made]],
        *,
        ending: asyncio.Event | None = None,
    ) -> None:
        self._count, self._tools, self._work = count, tools, work
        self._ending = asyncio.Event() if ending is None else ending
        self._results: SimpleQueue[tuple[Job, Made] | BaseException | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._all: asyncio.Task[None] | None = None

    @property
    def is_ending(self) -> bool:
        """Whether no further job is started."""
        return self._ending.is_set()

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Made]]:
        """Yield each job with its result, in order of completion.

        After the first Ctrl-C or error, jobs in progress are waited for briefly and yielded; then the exception is
        raised. A second Ctrl-C is raised at once.
        """
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._live, args=(jobs,), daemon=True, name="crowdselect-reward")
        with _signals_to(lambda: self._results.put(KeyboardInterrupt())):
            thread.start()
            try:
                while (result := self._results.get()) is not None:
                    if isinstance(result, BaseException):
                        yield from self._rest()
                        raise result
                    yield result
            finally:
                self._call(self._cancel)
                thread.join(_CLOSING)

    def _live(self, jobs: Sequence[Job]) -> None:
        """Run the loop, and signal its end."""
        try:
            self._loop.run_until_complete(self._do(jobs))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again in `run`)
            self._results.put(error)
        finally:
            self._loop.close()
            self._results.put(None)

    async def _do(self, jobs: Sequence[Job]) -> None:
        self._all = asyncio.current_task()
        waiting = iter(jobs)
        async with self._tools() as tools:
            await asyncio.gather(*(self._labour(tools, waiting) for _ in range(min(self._count, len(jobs)))))

    async def _labour(self, tools: Tools, waiting: Iterator[Job]) -> None:
        """Do one job after the other; after an error no worker starts another."""
        try:
            for job in waiting:
                if self.is_ending:
                    return
                self._results.put((job, await self._work(tools, job)))
        except Exception as error:  # noqa: BLE001  (raised again in `run`)
            self._ending.set()
            self._results.put(error)

    def _rest(self) -> Iterator[tuple[Job, Made]]:
        """Start nothing more, and yield results that arrive within the grace period."""
        self._call(self._ending.set)
        until = time.monotonic() + GRACE
        with suppress(Empty):
            while (result := self._results.get(timeout=max(0.0, until - time.monotonic()))) is not None:
                if not isinstance(result, BaseException):
                    yield result

    def _cancel(self) -> None:
        if self._all is not None:
            self._all.cancel()

    def _call(self, what: Callable[[], object]) -> None:
        """Call a function in the loop, if it still runs."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what)


@contextmanager
def _signals_to(first: Callable[[], None]) -> Iterator[None]:
    """Make the first stop signal call `first`, and each later one raise KeyboardInterrupt."""
    first_at: float | None = None

    def stop(*_: object) -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            first()
        elif time.monotonic() - first_at >= SAME_STOP:
            raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _place(spec: Spec) -> tuple[str, str | None]:
    """Part a URL into the server and the API that its end names; None if it names none.

    Raises:
        OptionError: What it names gives no rewards.
    """
    base, _, last = spec.target.rpartition("/")
    if last in _RERANKS:
        raise OptionError(f"`with` {spec.text!r}: {_RERANK}")
    if spec.target.endswith("/v1/classify"):
        raise OptionError(
            f"`with` {spec.text!r}: SGLang's /v1/classify is a softmax over the labels, 1 for every answer of a reward model; "
            f"name the server, {base.removesuffix('/v1')}"
        )
    if last in ENDPOINTS:
        return base, last
    return spec.target.removesuffix("/v1"), None


def _key(endpoint: Endpoint, variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable, "").strip()
    if not value or not (value.isascii() and value.isprintable()):
        raise OptionError(f"`api_key_env` {variable}: the environment variable is not set, or holds no key")
    if str(endpoint.base_url).startswith("http://") and not endpoint.is_loopback:
        raise OptionError(
            f"`api_key_env`: a key over plain http goes to this machine only, not to {endpoint.base_url}; use https"
        )
    return value
