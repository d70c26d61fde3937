"""Instruction-following difficulty: how much the instruction helps a language model to foresee the answer.

Li et al. 2023, "From Quantity to Quality" (arXiv 2308.12032; the IFD score of Cherry_LLM).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import check_optional, optional
from crowdselect.cache import KEY, Keys, Parts, folder, joined, read_part
from crowdselect.errors import InputError, OptionError
from crowdselect.modelfolders import check_model_folder
from crowdselect.pool.files import fingerprint
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen
from crowdselect.selection.reading import Answered
from crowdselect.types import FloatArray

BATCH = 256
"""Rows that are computed at a time and kept as a part: what a crash loses at most."""

_PLAIN = "{instruction}\n\n"  # for a model without a chat template


def by_ifd(
    *,
    model: str,
    max_length: int = 2048,
    batch_tokens: int = 4096,
    device: str = "auto",
    parts: str | Path | None = None,
) -> Method:
    """The rows whose instruction helps a language model least to foresee the answer, and yet helps.

    Instruction-following difficulty (Li et al. 2023, arXiv 2308.12032); see `IfdModel.ratios`. `score`
    is the ratio of losses; rows at 1 or above are left out, as in the paper. With a model that was first trained
    on a small sample it is the pre-experienced variant.

    Args:
        model: A causal language model: a folder, or a name on the Hub.
        max_length: The most tokens of instruction and answer.
        batch_tokens: The most tokens of a batch.
        device: "auto", "cpu", "cuda", ...
        parts: A folder where ratios are kept, and found again by model, instruction and answer; on a cluster one that
            all machines share. None = one in the cache folder, or with `Options.cache` off nowhere.
    """

    def kept_ratios(seen: Seen) -> KeptRatios:
        kept = parts if parts is not None else folder() / "ifd" if seen.options.cache else None
        return KeptRatios(
            None if kept is None else Path(kept),
            model=model,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
        )

    def known(seen: Seen, progress: Progress) -> int:
        for module in ("torch", "transformers"):
            check_optional(module, extra="reward")
        check_model_folder(model)
        found = seen.map(kept_ratios(seen).are_known, of="both", progress=progress, size=BATCH)
        return int(np.nansum(found))

    def score(seen: Seen, progress: Progress) -> Scored:
        ratios = seen.map(kept_ratios(seen), of="both", progress=progress, size=BATCH)
        return Scored(
            ratios, {"its loss ratio is 1 or above": ratios >= 1, "no loss ratio": np.isnan(ratios)}
        )

    return Method(
        name="ifd",
        arguments={"model": model, "max_length": max_length},
        score=score,
        known=known,
        needs=frozenset({"instruction", "answer"}),
    )


class KeptRatios:
    """Gives the ratios of batches as `IfdModel.ratios` does, and keeps each batch as a part; runs here or in an actor.

    The model is loaded with the first batch that is not all there.

    Args:
        kept: The folder of the parts; None = nothing is kept.
        model: As for `by_ifd`, and what follows.
        max_length: See there.
        batch_tokens: See there.
        device: See there; "auto" takes the GPU of the process that computes, or its CPU.

    Raises:
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """

    def __init__(
        self, kept: Path | None, *, model: str, max_length: int, batch_tokens: int, device: str
    ) -> None:
        _check_tokens(max_length=max_length, batch_tokens=batch_tokens)
        self._parts = None if kept is None else Parts(kept)
        self._load = partial(IfdModel, model, max_length=max_length, batch_tokens=batch_tokens, device=device)
        self._device = device
        self._identity = f"{_identity(model)} {max_length}"
        self._model: IfdModel | None = None
        self._found: tuple[Keys, FloatArray] | None = None

    def __call__(self, rows: Sequence[Answered]) -> FloatArray:
        """Give one ratio per row, NaN where there is none."""
        keys = [self._key(row) for row in rows]
        known, ratios = self._known()
        at = known.find(keys)
        found = dict(zip(keys, ratios[at].tolist(), strict=True)) if len(ratios) else {}
        left = {key: row for key, row, place in zip(keys, rows, at.tolist(), strict=True) if place < 0}
        if left:
            found |= zip(left, self._computed(left).tolist(), strict=True)
        return np.array([found[key] for key in keys])

    def are_known(self, rows: Sequence[Answered]) -> FloatArray:
        """Say of each row whether its ratio is kept: 1 or 0. The model is not loaded."""
        return np.asarray(self._known()[0].find([self._key(row) for row in rows]) >= 0, dtype=np.float64)

    def _computed(self, left: dict[bytes, Answered]) -> FloatArray:
        """Compute some ratios, unless their part is there: the batch was handed out a second time."""
        import pyarrow as pa

        keys = list(left)
        name = "" if self._parts is None else self._parts.name(keys)
        if self._parts is not None and self._parts.has(name):
            return np.asarray(read_part(self._parts.folder / name, "ratio")["ratio"])
        if self._model is None:
            self._model = self._load()
        ratios = self._model.ratios(list(left.values()))
        if self._parts is not None:
            self._parts.write(name, {KEY: pa.array(keys, pa.binary()), "ratio": pa.array(ratios)})
        return ratios

    def _known(self) -> tuple[Keys, FloatArray]:
        if self._found is None:
            table = None if self._parts is None else self._parts.read(KEY, "ratio")
            keys = b"" if table is None else joined(table[KEY])
            self._found = Keys.of(keys), np.empty(0) if table is None else np.asarray(table["ratio"])
        return self._found

    def _key(self, row: Answered) -> bytes:
        text = json.dumps([self._settings, list(row.prompt), row.answer])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    @cached_property
    def _settings(self) -> str:
        return f"{self._identity} {_placed(self._device).partition(':')[0]}"


class IfdModel:
    """A language model that gives ratios, loaded once.

    Args:
        model: A causal language model of transformers: a folder, or a name on the Hub. Weights must be
            safetensors; no code of the model's own is run.
        max_length: The most tokens of instruction and answer together; a longer answer is cut at its end.
        batch_tokens: The most tokens of a batch, padding included. Sequences of about one length run together.
        device: "auto", "cpu", "cuda", ...

    Raises:
        MissingExtraError: The extra `reward` is not installed.
        InputError: There is no such model.
        OptionError: `max_length` or `batch_tokens` is below 8.
    """

    def __init__(
        self, model: str, *, max_length: int = 2048, batch_tokens: int = 4096, device: str = "auto"
    ) -> None:
        _check_tokens(max_length=max_length, batch_tokens=batch_tokens)
        self._torch = optional("torch", extra="reward")
        self._where = _placed(device)
        self._tokenizer, self._network = _load(model, torch=self._torch, where=self._where)
        self._longest, self._batch_tokens = min(max_length, _longest(self._network)), batch_tokens

    def ratios(self, rows: Sequence[Answered]) -> FloatArray:
        """Mean loss of each answer given its instruction, divided by its mean loss alone.

        The instruction goes through the model's chat template where it has one. Both losses are means over
        the same tokens: all of the answer's where the model has a token for the beginning of a text, else all but
        the first, for which alone there is nothing to foretell it from.

        Args:
            rows: n instructions with answers.

        Returns:
            Shape (n,), above 0. Higher = the instruction helps less to foresee the answer, so the row is harder to
            follow; at 1 or above it does not help at all. NaN where the answer has no token to foretell, or
            none fits beside its instruction.
        """
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
        )
        out = np.full(len(rows), np.nan)
        for place in range(0, len(pieces), 2):  # given the instruction, and alone
            given, alone = losses[place : place + 2]
            out[pieces[place].row] = given / alone if alone > 0 else np.nan
        return out


@dataclass(frozen=True, slots=True)
class _Piece:
    """One sequence to run: its tokens, and from where on they are foretold."""

    row: int
    tokens: list[int]
    begin: int


def _check_tokens(**values: int) -> None:
    for name, value in values.items():
        if value < 8:
            raise OptionError(f"{name.replace('_', '-')}={value} is too small; wanted at least 8 tokens")


def _placed(device: str) -> str:
    """Settle "auto": a GPU where there is one."""
    if device != "auto":
        return device
    return "cuda" if optional("torch", extra="reward").cuda.is_available() else "cpu"


def _identity(model: str) -> str:
    """Say which model it is: what is in its folder, or its name and commit on the Hub.

    Raises:
        InputError: There is no such model.
    """
    place = Path(model)
    if place.is_dir():
        return fingerprint(sorted(file for file in place.rglob("*") if file.is_file()))
    try:
        config = optional("transformers", extra="reward").AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise _not_loaded(model, error) from error
    return f"{model} {getattr(config, '_commit_hash', None)}"


def _not_loaded(model: str, error: Exception) -> InputError:
    said = " ".join(str(error).split())[:200]
    kind = "folder" if Path(model).exists() else "model"
    return InputError(f"{model}: this {kind} cannot be loaded as a causal language model: {said}")


def _load(model: str, *, torch: Any, where: str) -> tuple[Any, Any]:  # noqa: ANN401  (modules and models of any type)
    transformers = optional("transformers", extra="reward")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        network = transformers.AutoModelForCausalLM.from_pretrained(
            model, use_safetensors=True, dtype=torch.float32 if where == "cpu" else "auto"
        )
        network.to(where)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(model, error) from error
    network.eval()
    return tokenizer, network


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
    return out
