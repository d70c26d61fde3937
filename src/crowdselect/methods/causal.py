"""A causal language model on this machine: how well it predicts tokens. What methods and evaluations share."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.modelfolders import no_bars_in_a_pipe, quiet_hub
from crowdselect.pool.files import fingerprint
from crowdselect.types import FloatArray


@dataclass(frozen=True, slots=True)
class Piece:
    """One sequence to run: its tokens, and where the predicted ones begin."""

    row: int
    tokens: list[int]
    begin: int


class CausalModel:
    """A causal language model, loaded once; with adapters, if peft is installed.

    Args:
        model: A folder, or a name on the Hub. Weights must be safetensors; the model's own code is never run.
        max_length: Most tokens of what stands before and the answer together; a longer answer is cut at its end.
        batch_tokens: Most tokens of a batch, padding included. Sequences of similar length run together.
        device: "auto", "cpu", "cuda", ...

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """

    def __init__(
        self, model: str, *, max_length: int = 2048, batch_tokens: int = 4096, device: str = "auto"
    ) -> None:
        check_tokens(max_length=max_length, batch_tokens=batch_tokens)
        self._torch = optional("torch", extra="reward")
        self._where, self._batch_tokens = placed(device), batch_tokens
        self._tokenizer, self._network = _loaded(model, torch=self._torch, where=self._where)
        # Some models say how far their positions go.
        self._longest = min(
            max_length, getattr(self._network.config, "max_position_embeddings", None) or max_length
        )

    def losses(self, pieces: Sequence[Piece]) -> FloatArray:
        """Compute each sequence's mean loss over its predicted tokens, shape (n,), whatever the others."""
        torch = self._torch
        out = np.full(len(pieces), np.nan)
        # The longest run first, so that lengths in a batch are similar.
        order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i].tokens))
        done = 0
        while done < len(order):
            longest = len(pieces[order[done]].tokens)
            batch = order[done : done + max(1, self._batch_tokens // longest)]
            tokens = torch.zeros((len(batch), longest), dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for line, i in enumerate(batch):
                ids = pieces[i].tokens
                tokens[line, : len(ids)] = torch.tensor(ids)
                mask[line, : len(ids)] = 1
            with torch.inference_mode():
                where = self._where
                logits = self._network(input_ids=tokens.to(where), attention_mask=mask.to(where)).logits
            for line, i in enumerate(batch):
                piece = pieces[i]
                predicted = torch.tensor(piece.tokens[piece.begin :], device=logits.device)
                # The token at position t is predicted by the logits at t - 1.
                predictions = logits[line, piece.begin - 1 : len(piece.tokens) - 1].float()
                out[i] = float(torch.nn.functional.cross_entropy(predictions, predicted))
            done += len(batch)
        return out


def check_tokens(**values: int) -> None:
    """Refuse a number of tokens below 8.

    Raises:
        OptionError: One is; the message names it.
    """
    for name, value in values.items():
        if value < 8:
            raise OptionError(f"`{name}={value}` is too small; wanted at least 8 tokens")


def placed(device: str) -> str:
    """Resolve "auto": a GPU if there is one."""
    if device != "auto":
        return device
    return "cuda" if optional("torch", extra="reward").cuda.is_available() else "cpu"


def identity_of(model: str) -> str:
    """Identify a model: by the content of its folder, or its name and commit on the Hub.

    Raises:
        InputError: There is no such model.
    """
    path = Path(model)
    if path.is_dir():
        return fingerprint(sorted(file for file in path.rglob("*") if file.is_file()))
    try:
        with quiet_hub(model):
            config = optional("transformers", extra="reward").AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise _not_loaded(model, error) from error
    return f"{model} {getattr(config, '_commit_hash', None)}"


def _not_loaded(model: str, error: Exception) -> InputError:
    cause = " ".join(str(error).split())[:300]
    kind = "folder" if Path(model).exists() else "model"
    return InputError(f"{model}: this {kind} cannot be loaded as a causal language model: {cause}")


def _loaded(model: str, *, torch: Any, where: str) -> tuple[Any, Any]:  # noqa: ANN401  (modules and models of any type)
    """Load the tokenizer and the weights, ready to read texts."""
    transformers = optional("transformers", extra="reward")
    try:
        with quiet_hub(model), no_bars_in_a_pipe():
            tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            network = transformers.AutoModelForCausalLM.from_pretrained(
                model, use_safetensors=True, dtype=torch.float32 if where == "cpu" else "auto"
            )
        network.to(where)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(model, error) from error
    tokenizer.model_max_length = sys.maxsize  # or it warns of what is cut here
    network.eval()
    return tokenizer, network
