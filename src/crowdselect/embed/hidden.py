"""Hidden states of a causal language model as vectors of texts, as RDS+ reads them (Ivison et al. 2025, arXiv 2503.01807)."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crowdselect._optional import optional
from crowdselect.errors import OptionError
from crowdselect.modelfolders import quiet_hub
from crowdselect.types import Float32Array

TOKENS = 2048
"""Tokens of a text that are read, as in the paper; fewer where the model has fewer positions."""
_BATCH = 16_384  # tokens of a batch, padding included


def where_it_runs() -> str:
    """Name the device: "cuda" if there is one, else "cpu".

    Raises:
        MissingExtraError: The extra `reward` is not installed.
    """
    return "cuda" if optional("torch", extra="reward").cuda.is_available() else "cpu"


def load(model: str, revision: str | None = None) -> Callable[[list[str]], Float32Array]:
    """Load a causal language model that embeds texts.

    A text's vector is the mean of the last layer's hidden states over its tokens, the t-th with the weight t: what comes
    later has seen more of the text.

    Args:
        model: A folder, or a name on the Hub. Weights must be safetensors; the model's own code is never run.
        revision: The commit on the Hub.

    Returns:
        A function of n texts, the longest first, that returns shape (n, D); zeros for a text without a token.

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        OptionError: It cannot be loaded.
    """
    torch, transformers = (optional(name, extra="reward") for name in ("torch", "transformers"))
    device = where_it_runs()
    try:
        with quiet_hub(model):
            tokenizer = transformers.AutoTokenizer.from_pretrained(model, revision=revision)
            network = transformers.AutoModelForCausalLM.from_pretrained(
                model,
                revision=revision,
                use_safetensors=True,
                dtype=torch.float32 if device == "cpu" else "auto",
            )
            network.to(device)
    except (OSError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:300]
        raise OptionError(
            f"`embedder='hidden:{model}'` cannot be loaded as a causal language model: {cause}"
        ) from error
    body = network.eval().base_model  # without the head, whose output is as wide as the vocabulary
    longest = min(TOKENS, getattr(network.config, "max_position_embeddings", None) or TOKENS)

    def encode(texts: list[str]) -> Float32Array:
        tokens = [ids[:longest] for ids in tokenizer(texts)["input_ids"]]
        out = np.zeros((len(texts), network.config.hidden_size), dtype=np.float32)
        for rows in _batches([len(ids) for ids in tokens]):
            width = max(len(tokens[row]) for row in rows)
            ids, mask = (torch.zeros((len(rows), width), dtype=torch.long) for _ in range(2))
            for line, row in enumerate(rows):
                ids[line, : len(tokens[row])] = torch.tensor(tokens[row])
                mask[line, : len(tokens[row])] = 1
            with torch.inference_mode():
                states = body(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
                weights = (mask * torch.arange(1, width + 1)).to(device, torch.float32)
                means = torch.einsum("btd,bt->bd", states.float(), weights / weights.sum(dim=1, keepdim=True))
            out[rows] = means.cpu().numpy()
        return out

    return encode


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Divide texts with tokens into batches, the longest first."""
    order = sorted((row for row, length in enumerate(lengths) if length), key=lambda row: -lengths[row])
    begin = 0
    while begin < len(order):
        end = begin + max(1, _BATCH // lengths[order[begin]])
        yield order[begin:end]
        begin = end
