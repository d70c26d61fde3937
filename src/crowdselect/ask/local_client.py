"""A client for a model on this machine, through transformers: requests are gathered and answered in batches."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

from crowdselect._optional import optional
from crowdselect.ask.calls import Reply, Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.errors import CallError, InputError

_GATHER = 0.02  # seconds in which requests that come together make a batch
_DEFAULT_TOKENS = 1024  # of an answer, where max_tokens is not set


@dataclass(slots=True)
class _Waiting:
    request: Request
    answer: "asyncio.Future[Reply]"


class LocalClient:
    """Generates answers in batches with left padding and the model's own chat template.

    Sampling draws from a hash of the seed and the request (the Gumbel trick), so that an answer does not
    depend on which others were in its batch. Weights are read from safetensors files only, and no code that
    comes with a model is run.

    Args:
        endpoint: With a `local` model: a folder or a name on the hub; with peft also an adapter.
        shared: Where tokenizer and model are kept for other clients of the same model, which is asked with other
            settings: its weights are read once. None = this client has its own, and lets go of them when it closes.
    """

    def __init__(self, endpoint: Endpoint, *, shared: list[tuple[Any, Any]] | None = None) -> None:
        self._endpoint = endpoint
        self._torch = optional("torch", extra="local")
        self._transformers = optional("transformers", extra="local")
        if endpoint.extra_body:
            raise InputError(f"model {endpoint.name!r}: extra_body is for servers; a local model takes none")
        self._queue: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="crowdselect-local")
        self._closing = Event()
        self._loaded: tuple[Any, Any] | None = None
        self._shared = shared

    async def ask(self, request: Request) -> Reply:
        """Wait for a batch that this request is in.

        Raises:
            CallError: The prompt is too long, or the model has no chat template.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return await waiting.answer

    async def close(self) -> None:
        """Let go of the model; what is being generated for nobody any more ends with its next token."""
        self._closing.set()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._loaded = None

    async def _work(self) -> None:
        """Answer batch after batch until none waits."""
        await asyncio.sleep(_GATHER)
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._queue[: self._endpoint.batch_size]
            del self._queue[: len(batch)]
            replies: list[Reply | CallError] | list[Exception]
            try:
                replies = await loop.run_in_executor(self._thread, self._generate, [w.request for w in batch])
            except Exception as error:  # noqa: BLE001  (whatever it is, those who wait are told, and raise it)
                replies = [error for _ in batch]
            for waiting, reply in zip(batch, replies, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(reply, Reply):
                    waiting.answer.set_result(reply)
                else:
                    waiting.answer.set_exception(reply)

    def answers(self, requests: list[Request]) -> list[Reply | CallError]:
        """Answer requests here and now, in batches; without an event loop.

        Raises:
            CallError: The model cannot be used.
        """
        size = self._endpoint.batch_size
        batches = [requests[begin : begin + size] for begin in range(0, len(requests), size)]
        return [reply for batch in batches for reply in self._generate(batch)]

    def _load(self) -> tuple[Any, Any]:
        """Read tokenizer and model, once; in the thread that generates."""
        if self._shared:
            return self._shared[0]
        if self._loaded is None:
            endpoint, torch, library = self._endpoint, self._torch, self._transformers
            try:
                tokenizer = library.AutoTokenizer.from_pretrained(endpoint.local, padding_side="left")
                model = library.AutoModelForCausalLM.from_pretrained(
                    endpoint.local, dtype="auto", use_safetensors=True
                )
            except (OSError, ValueError) as error:
                why = " ".join(str(error).split())[:300]
                raise CallError(
                    f"the local model {endpoint.local!r} cannot be loaded: {why}", verdict="stop"
                ) from error
            if tokenizer.chat_template is None:
                raise CallError(f"the local model {endpoint.local!r} has no chat template", verdict="stop")
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._loaded = tokenizer, model.to(device).eval()
            if self._shared is not None:
                self._shared.append(self._loaded)
        return self._loaded

    def _generate(self, requests: list[Request]) -> list[Reply | CallError]:
        tokenizer, model = self._load()
        endpoint, torch = self._endpoint, self._torch
        prompts = [self._prompt(request, tokenizer) for request in requests]
        most = endpoint.max_tokens or _DEFAULT_TOKENS
        room = getattr(model.config, "max_position_embeddings", None)
        fits = [room is None or len(prompt) + most <= room for prompt in prompts]
        chosen = [at for at, ok in enumerate(fits) if ok]
        replies: list[Reply | CallError] = [
            CallError(
                f"the prompt has {len(prompt)} tokens, which with max_tokens {most} are more than the model's {room}",
                verdict="failed",
            )
            for prompt in prompts
        ]
        if not chosen:
            return replies
        inputs = tokenizer.pad({"input_ids": [prompts[at] for at in chosen]}, return_tensors="pt").to(
            model.device
        )
        with torch.inference_mode():
            made = model.generate(
                **inputs,
                generation_config=self._settings(model, tokenizer, most),
                logits_processor=self._sampling(model, [requests[at] for at in chosen]),
            )
        width = inputs["input_ids"].shape[1]
        for at, tokens in zip(chosen, made[:, width:].tolist(), strict=True):
            replies[at] = self._reply(tokens, len(prompts[at]), model, tokenizer, most=most)
        return replies

    def _prompt(self, request: Request, tokenizer: Any) -> list[int]:  # noqa: ANN401  (transformers' classes)
        messages = request.messages()
        if self._endpoint.system is not None:
            messages = [{"role": "system", "content": self._endpoint.system}, *messages]
        tokens: list[int] = tokenizer.apply_chat_template(
            messages, tools=request.tools(), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tokens

    def _settings(self, model: Any, tokenizer: Any, most: int) -> Any:  # noqa: ANN401
        """Greedy decoding: what is drawn is drawn by `_sampling`."""
        return self._transformers.GenerationConfig(
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=_ends(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )

    def _sampling(self, model: Any, requests: list[Request]) -> Any:  # noqa: ANN401
        endpoint, library = self._endpoint, self._transformers
        own = model.generation_config
        temperature = endpoint.temperature
        if temperature is None:
            temperature = (own.temperature or 1.0) if own.do_sample else 0.0
        steps = library.LogitsProcessorList([_Unless(self._closing)])
        if temperature == 0:
            return steps
        top_p = endpoint.top_p if endpoint.top_p is not None else (own.top_p if own.do_sample else None)
        steps.append(library.TemperatureLogitsWarper(float(temperature)))
        if top_p is not None and top_p < 1:
            steps.append(library.TopPLogitsWarper(top_p=top_p))
        steps.append(_Gumbel(self._torch, [_seed(endpoint, request) for request in requests]))
        return steps

    def _reply(
        self,
        tokens: list[int],
        prompt_tokens: int,
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        *,
        most: int,
    ) -> Reply:
        ends = set(_ends(model, tokenizer))
        at = next((number for number, token in enumerate(tokens) if token in ends), None)
        said = tokens if at is None else tokens[:at]
        text = tokenizer.decode(said, skip_special_tokens=True)
        finish = "length" if at is None and len(tokens) >= most else "stop"
        return Reply(text, finish, None, prompt_tokens, len(said) + (at is not None))


class _Unless:
    """Ends a generation that nobody waits for; called for every token."""

    def __init__(self, closing: Event) -> None:
        self._closing = closing

    def __call__(self, _input_ids: Any, scores: Any) -> Any:  # noqa: ANN401  (tensors)
        if self._closing.is_set():
            raise CallError("the run ended before the answer came")
        return scores


class _Gumbel:
    """Adds noise to the logits so that the largest is a draw from their distribution; per row and step."""

    def __init__(self, torch: Any, seeds: list[int]) -> None:  # noqa: ANN401  (a module)
        self._torch = torch
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, _input_ids: Any, scores: Any) -> Any:  # noqa: ANN401  (tensors)
        torch = self._torch
        draws = [torch.rand(scores.shape[-1], generator=g, dtype=torch.float64) for g in self._generators]
        noise = -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))
        return scores.double() + noise.to(scores.device)


def _seed(endpoint: Endpoint, request: Request) -> int:
    """Draw a seed from the endpoint's and what is asked, whatever else is asked beside it."""
    return int.from_bytes(hashlib.sha256(b"seed" + request.key(endpoint)).digest()[:7], "big")


def _ends(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401  (transformers' classes)
    """Give the tokens that end an answer."""
    found = model.generation_config.eos_token_id
    found = found if isinstance(found, list) else [found]
    return sorted({token for token in (*found, tokenizer.eos_token_id) if token is not None})
