"""Instruction-following difficulty: how much the instruction helps a language model to foresee the answer.

Li et al. 2023, "From Quantity to Quality" (arXiv 2308.12032; the IFD score of Cherry_LLM).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.types import FloatArray

Progress = Callable[[int, int], None]

_PLAIN = "{instruction}\n\n"  # for a model without a chat template


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An instruction as chat messages, and its answer."""

    prompt: Sequence[dict[str, str]]
    answer: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """One sequence to run: its tokens, and from where on they are foretold."""

    row: int
    tokens: list[int]
    begin: int


def ifd_ratios(
    rows: Sequence[Answered],
    *,
    model: str,
    max_length: int = 2048,
    batch_tokens: int = 4096,
    device: str = "auto",
    progress: Progress | None = None,
) -> FloatArray:
    """Mean loss of each answer given its instruction, divided by its mean loss alone.

    The instruction goes through the model's chat template where it has one. Both losses are means over
    the same tokens: all of the answer's where the model has a token for the beginning of a text, else all but
    the first, for which alone there is nothing to foretell it from.

    Args:
        rows: n instructions with answers.
        model: A causal language model of transformers: a folder, or a name on the Hub. Weights must be
            safetensors; no code of the model's own is run.
        max_length: The most tokens of instruction and answer together; a longer answer is cut at its end.
        batch_tokens: The most tokens of a batch, padding included. Sequences of about one length run together.
        device: "auto", "cpu", "cuda", ...
        progress: Told (sequences done, sequences in all).

    Returns:
        Shape (n,), above 0. Higher = the instruction helps less to foresee the answer, so the row is harder to
        follow; at 1 or above it does not help at all. NaN where the answer has no token to foretell, or
        none fits beside its instruction.

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """
    loaded = IfdModel(model, max_length=max_length, batch_tokens=batch_tokens, device=device)
    return loaded.ratios(rows, progress=progress)


class IfdModel:
    """A language model that gives ratios, loaded once; see `ifd_ratios` for the arguments and what is raised."""

    def __init__(
        self, model: str, *, max_length: int = 2048, batch_tokens: int = 4096, device: str = "auto"
    ) -> None:
        for name, value in (("max-length", max_length), ("batch-tokens", batch_tokens)):
            if value < 8:
                raise OptionError(f"{name}={value} is too small; wanted at least 8 tokens")
        self._torch = optional("torch", extra="reward")
        self._tokenizer, self._network, self._where = _load(model, torch=self._torch, device=device)
        self._longest, self._batch_tokens = min(max_length, _longest(self._network)), batch_tokens

    def ratios(self, rows: Sequence[Answered], *, progress: Progress | None = None) -> FloatArray:
        """Do what `ifd_ratios` does."""
        bos = self._tokenizer.bos_token_id
        pieces: list[_Piece] = []
        for row, answered in enumerate(rows):
            pieces += _pieces(row, answered, self._tokenizer, bos=bos, max_length=self._longest)
        losses = _losses(
            pieces,
            self._network,
            torch=self._torch,
            where=self._where,
            batch_tokens=self._batch_tokens,
            progress=progress,
        )
        out = np.full(len(rows), np.nan)
        for place in range(0, len(pieces), 2):  # given the instruction, and alone
            given, alone = losses[place : place + 2]
            out[pieces[place].row] = given / alone if alone > 0 else np.nan
        return out


def _load(model: str, *, torch: Any, device: str) -> tuple[Any, Any, str]:  # noqa: ANN401  (modules and models of any type)
    transformers = optional("transformers", extra="reward")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            model, use_safetensors=True, dtype=torch.float32 if where == "cpu" else "auto"
        )
        network.to(where)
    except (OSError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        kind = "folder" if Path(model).exists() else "model"
        raise InputError(
            f"{model}: this {kind} cannot be loaded as a causal language model: {words}"
        ) from error
    network.eval()
    return tokenizer, network, where


def _longest(network: Any) -> int:  # noqa: ANN401
    return int(getattr(network.config, "max_position_embeddings", None) or 1 << 30)


def _pieces(
    row: int,
    answered: Answered,
    tokenizer: Any,  # noqa: ANN401
    *,
    bos: int | None,
    max_length: int,
) -> list[_Piece]:
    """The two sequences of a row, or none where nothing is to be foretold."""
    start = [] if bos is None else [bos]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            list(answered.prompt), tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        said = "\n\n".join(message["content"] for message in answered.prompt)
        prompt = start + tokenizer(_PLAIN.format(instruction=said), add_special_tokens=False)["input_ids"]
    answer = tokenizer(answered.answer, add_special_tokens=False)["input_ids"]
    answer = answer[: max(max_length - max(len(prompt), len(start)), 0)]
    skipped = 0 if start else 1
    if len(answer) <= skipped or not prompt:
        return []
    return [
        _Piece(row, prompt + answer, len(prompt) + skipped),
        _Piece(row, start + answer, len(start) + skipped),
    ]


def _losses(
    pieces: Sequence[_Piece],
    network: Any,  # noqa: ANN401
    *,
    torch: Any,  # noqa: ANN401
    where: str,
    batch_tokens: int,
    progress: Progress | None,
) -> FloatArray:
    """Mean loss of each sequence over its foretold tokens; the longest first, so that a batch is of one length."""
    out = np.full(len(pieces), np.nan)
    order = sorted(range(len(pieces)), key=lambda place: -len(pieces[place].tokens))
    done = 0
    while done < len(order):
        longest = len(pieces[order[done]].tokens)
        batch = order[done : done + max(1, batch_tokens // longest)]
        tokens = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for line, place in enumerate(batch):
            own = pieces[place].tokens
            tokens[line, : len(own)] = torch.tensor(own)
            mask[line, : len(own)] = 1
        with torch.inference_mode():
            logits = network(input_ids=tokens.to(where), attention_mask=mask.to(where)).logits
        for line, place in enumerate(batch):
            piece = pieces[place]
            foretold = torch.tensor(piece.tokens[piece.begin :], device=logits.device)
            # The token at position t is foretold by the logits at t - 1.
            seen = logits[line, piece.begin - 1 : len(piece.tokens) - 1].float()
            out[place] = float(torch.nn.functional.cross_entropy(seen, foretold))
        done += len(batch)
        if progress is not None:
            progress(done, len(order))
    return out
