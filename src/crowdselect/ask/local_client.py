"""A client for a model on this machine, through transformers: requests are collected and answered in batches."""

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

_GATHER = 0.02  # seconds to collect requests for a batch
_DEFAULT_TOKENS = 1024  # maximum of an answer if max_tokens is not set


@dataclass(slots=True)
class _Waiting:
    request: Request
    answer: "asyncio.Future[Reply]"


class LocalClient:
    """Generates answers in batches with left padding and the model's own chat template.

    Sampling is seeded by a hash of the seed and the request (Gumbel-max trick), so that an answer does not
    depend on the rest of its batch. Weights are read from safetensors files only, and a model's own code is
    never run.

    Args:
        endpoint: With a `local` model: a folder or a name on the hub; with peft also an adapter.
        shared: Holds tokenizer and model for clients of the same model with other settings, so that its weights are
            read once. None = this client loads its own, and frees them when it closes.
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
        """Queue a request, and wait for the batch that answers it.

        Raises:
            CallError: The prompt is too long, or the model has no chat template.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return await waiting.answer

    async def close(self) -> None:
        """Free the model; a generation still running ends with its next token."""
        self._closing.set()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        self._loaded = None

    async def _work(self) -> None:
        """Answer batches until the queue is empty."""
        await asyncio.sleep(_GATHER)
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._queue[: self._endpoint.batch_size]
            del self._queue[: len(batch)]
            replies: list[Reply | CallError] | list[Exception]
            try:
                replies = await loop.run_in_executor(self._thread, self._generate, [w.request for w in batch])
            except Exception as error:  # noqa: BLE001  (any error is passed on to the waiting tasks, which raise it)
                replies = [error for _ in batch]
            for waiting, reply in zip(batch, replies, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(reply, Reply):
                    waiting.answer.set_result(reply)
                else:
                    waiting.answer.set_exception(reply)

    def answers(self, requests: list[Request]) -> list[Reply | CallError]:
        """Answer requests synchronously, in batches, without an event loop.

        Raises:
            CallError: The model cannot be used.
        """
        size = self._endpoint.batch_size
        batches = [requests[begin : begin + size] for begin in range(0, len(requests), size)]
        return [reply for batch in batches for reply in self._generate(batch)]

    def _load(self) -> tuple[Any, Any]:
        """Load tokenizer and model once, in the thread that generates."""
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
        max_tokens = endpoint.max_tokens or _DEFAULT_TOKENS
        room = getattr(model.config, "max_position_embeddings", None)
        is_short = [room is None or len(prompt) + max_tokens <= room for prompt in prompts]
        runnable = [at for at, ok in enumerate(is_short) if ok]
        replies: list[Reply | CallError] = [
            CallError(
                f"the prompt has {len(prompt)} tokens, which with max_tokens {max_tokens} are more than the model's {room}",
                verdict="failed",
            )
            for prompt in prompts
        ]
        if not runnable:
            return replies
        inputs = tokenizer.pad({"input_ids": [prompts[at] for at in runnable]}, return_tensors="pt").to(
            model.device
        )
        with torch.inference_mode():
            generated = model.generate(
                **inputs,
                generation_config=self._settings(model, tokenizer, max_tokens),
                logits_processor=self._sampling(model, [requests[at] for at in runnable]),
            )
        width = inputs["input_ids"].shape[1]
        for at, tokens in zip(runnable, generated[:, width:].tolist(), strict=True):
            replies[at] = self._reply(tokens, len(prompts[at]), model, tokenizer, max_tokens=max_tokens)
        return replies

    def _prompt(self, request: Request, tokenizer: Any) -> list[int]:  # noqa: ANN401  (transformers' classes)
        messages = request.messages()
        if self._endpoint.system is not None:
            messages = [{"role": "system", "content": self._endpoint.system}, *messages]
        tokens: list[int] = tokenizer.apply_chat_template(
            messages, tools=request.tools(), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return tokens

    def _settings(self, model: Any, tokenizer: Any, max_tokens: int) -> Any:  # noqa: ANN401
        """Return settings for greedy decoding; `_sampling` adds the randomness."""
        return self._transformers.GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=_ends(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
        )

    def _sampling(self, model: Any, requests: list[Request]) -> Any:  # noqa: ANN401
        endpoint, library = self._endpoint, self._transformers
        defaults = model.generation_config
        temperature = endpoint.temperature
        if temperature is None:
            temperature = (defaults.temperature or 1.0) if defaults.do_sample else 0.0
        steps = library.LogitsProcessorList([_Unless(self._closing)])
        if temperature == 0:
            return steps
        top_p = (
            endpoint.top_p if endpoint.top_p is not None else (defaults.top_p if defaults.do_sample else None)
        )
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
        max_tokens: int,
    ) -> Reply:
        ends = set(_ends(model, tokenizer))
        end = next((number for number, token in enumerate(tokens) if token in ends), None)
        content = tokens if end is None else tokens[:end]
        text = tokenizer.decode(content, skip_special_tokens=True)
        finish = "length" if end is None and len(tokens) >= max_tokens else "stop"
        return Reply(text, finish, None, prompt_tokens, len(content) + (end is not None))


class _Unless:
    """Stops a generation when the client is closing; called for every token."""

    def __init__(self, closing: Event) -> None:
        self._closing = closing

    def __call__(self, _input_ids: Any, scores: Any) -> Any:  # noqa: ANN401  (tensors)
        if self._closing.is_set():
            raise CallError("the run ended before the answer came")
        return scores


class _Gumbel:
    """Adds Gumbel noise to the logits, so that the largest is a draw from their distribution; per row and step."""

    def __init__(self, torch: Any, seeds: list[int]) -> None:  # noqa: ANN401  (a module)
        self._torch = torch
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, _input_ids: Any, scores: Any) -> Any:  # noqa: ANN401  (tensors)
        torch = self._torch
        draws = [torch.rand(scores.shape[-1], generator=g, dtype=torch.float64) for g in self._generators]
        noise = -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))
        return scores.double() + noise.to(scores.device)


def _seed(endpoint: Endpoint, request: Request) -> int:
    """Derive a seed from the endpoint and the request alone, whatever else is in the batch."""
    return int.from_bytes(hashlib.sha256(b"seed" + request.key(endpoint)).digest()[:7], "big")


def _ends(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401  (transformers' classes)
    """Return the tokens that end an answer."""
    model_ends = model.generation_config.eos_token_id
    model_ends = model_ends if isinstance(model_ends, list) else [model_ends]
    return sorted({token for token in (*model_ends, tokenizer.eos_token_id) if token is not None})
