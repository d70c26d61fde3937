"""Instruction-following difficulty: how much the instruction helps a language model to predict the answer.

Li et al. 2023, "From Quantity to Quality" (arXiv 2308.12032; the IFD score of Cherry_LLM).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect._optional import check_optional
from crowdselect.cache import folder
from crowdselect.methods.causal import CausalModel, Piece
from crowdselect.methods.kept import Kept, Score
from crowdselect.modelfolders import check_model_folder, is_here
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen
from crowdselect.selection.reading import BATCH, Answered
from crowdselect.types import FloatArray

_PLAIN = "{instruction}\n\n"  # for a model without a chat template


def by_ifd(
    *,
    model: str,
    max_length: int = 2048,
    batch_tokens: int = 4096,
    device: str = "auto",
    parts: str | Path | None = None,
) -> Method:
    """Choose the rows whose instruction helps a language model least to predict the answer, but does help.

    Instruction-following difficulty (Li et al. 2023, arXiv 2308.12032); see `IfdModel.ratios`. `score`
    is the ratio of losses; rows at 1 or above are left out, as in the paper. With a model that was first trained
    on a small sample, it is the paper's pre-experienced variant.

    Args:
        model: A causal language model: a folder, or a name on the Hub.
        max_length: Most tokens of instruction and answer together.
        batch_tokens: Most tokens of a batch.
        device: "auto", "cpu", "cuda", ...
        parts: A folder that caches ratios by model, instruction and answer; on a cluster, one that all machines
            share. None = one in the cache folder, or no cache if `Options.cache` is off.
    """

    def kept_ratios(seen: Seen) -> KeptRatios:
        folder_of_parts = parts if parts is not None else folder() / "ifd" if seen.options.cache else None
        return KeptRatios(
            None if folder_of_parts is None else Path(folder_of_parts),
            model=model,
            max_length=max_length,
            batch_tokens=batch_tokens,
            device=device,
        )

    def known(seen: Seen, progress: Progress) -> int | None:
        for module in ("torch", "transformers"):
            check_optional(module, extra="reward")
        check_model_folder(model)
        if not is_here(model):
            return None
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


class KeptRatios(Kept):
    """Callable that returns the ratios of `IfdModel.ratios`, cached: see `Kept`."""

    column = "ratio"

    def _load(self) -> Score:
        return IfdModel(self._name, **self._limits).ratios


class IfdModel(CausalModel):
    """A language model that computes ratios."""

    def ratios(self, rows: Sequence[Answered]) -> FloatArray:
        """Compute the mean loss of each answer given its instruction, divided by its mean loss alone.

        The instruction goes through the model's chat template if it has one. Both losses are means over the
        same tokens: all of the answer's if the model has a beginning-of-text token, else all but the first,
        which on its own has nothing before it to be predicted from.

        Args:
            rows: n instructions with answers.

        Returns:
            Shape (n,), above 0. Higher = the instruction helps less to predict the answer, so the row is harder to
            follow; at 1 or above it does not help at all. NaN where the answer has no token to predict, or
            none fits beside its instruction.
        """
        bos = self._tokenizer.bos_token_id
        pieces: list[Piece] = []
        for row, answered in enumerate(rows):
            pieces += _pieces(row, answered, self._tokenizer, bos=bos, max_length=self._longest)
        losses = self.losses(pieces)
        out = np.full(len(rows), np.nan)
        for i in range(0, len(pieces), 2):  # given the instruction, and alone
            given, alone = losses[i : i + 2]
            out[pieces[i].row] = given / alone if alone > 0 else np.nan
        return out


def _pieces(
    row: int,
    answered: Answered,
    tokenizer: Any,  # noqa: ANN401
    *,
    bos: int | None,
    max_length: int,
) -> list[Piece]:
    """Build the two sequences of a row, or none if there is no token to predict."""
    start = [] if bos is None else [bos]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            list(answered.prompt), tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        instruction = "\n\n".join(message["content"] or "" for message in answered.prompt)
        prompt = (
            start + tokenizer(_PLAIN.format(instruction=instruction), add_special_tokens=False)["input_ids"]
        )
    answer = tokenizer(answered.answer, add_special_tokens=False)["input_ids"]
    answer = answer[: max(max_length - max(len(prompt), len(start)), 0)]
    skipped = 0 if start else 1
    if len(answer) <= skipped or not prompt:
        return []
    return [
        Piece(row, prompt + answer, len(prompt) + skipped),
        Piece(row, start + answer, len(start) + skipped),
    ]
