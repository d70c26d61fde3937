"""How likely a language model finds answers: the mean loss of each answer's tokens, given the messages before it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.methods.causal import CausalModel, Piece
from crowdselect.pool.prompts import Chat, for_template, tool_names
from crowdselect.progress import Progress
from crowdselect.selection.eligible import NEEDS_TOOLS

_TOGETHER = 64  # answers tokenised at a time, between two reports of progress
_PLAIN = "\n\n"  # after the messages, for a model without a chat template


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely one answer is.

    Attributes:
        loss: Mean loss per token of the answer, in nats, at least 0; lower = more likely. None = there is none.
        tokens: Tokens of the answer that count, with what ends it.
        is_cut: Whether the end of the answer was cut, to fit into `max_length`.
        reason: Why there is no loss; None = there is one.
    """

    loss: float | None = None
    tokens: int = 0
    is_cut: bool = False
    reason: str | None = None


class LanguageModel(CausalModel):
    """A language model that says how likely answers are; its settings are those of `CausalModel`."""

    @property
    def tokenizer(self) -> str:
        """What tells tokenizers apart: losses per token are comparable only where it is the same."""
        vocabulary = sorted(self._tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        return repr((self._tokenizer.chat_template, vocabulary))

    def likelihoods(
        self,
        asked: Sequence[tuple[Chat, str]],
        *,
        tools: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> list[Likelihood]:
        """Compute the loss of answers.

        The loss is on the tokens that training puts it on: those of the answer as the chat template writes it, with
        what ends it; all messages before are given. Without a template the messages stand before it as text.

        Args:
            asked: Messages, and the answer to them.
            tools: Those that may be called in answering each, as JSON; None = there are none.
            progress: Called with the number of answers done and in total.

        Returns:
            One per answer, whatever the order and the others.
        """
        found: list[Likelihood] = []
        for begin in range(0, len(asked), _TOGETHER):
            here = slice(begin, begin + _TOGETHER)
            found += self._some(asked[here], [None] * len(asked[here]) if tools is None else tools[here])
            if progress is not None:
                progress(len(found), len(asked))
        return found

    def _some(self, asked: Sequence[tuple[Chat, str]], tools: Sequence[str | None]) -> list[Likelihood]:
        pieces, found = [], []
        for row, ((messages, answer), own) in enumerate(zip(asked, tools, strict=True)):
            piece = self._piece(row, for_template(messages), answer, own)
            if isinstance(piece, str):
                found.append(Likelihood(reason=piece))
                continue
            kept = piece.tokens[: self._longest]
            if len(kept) <= piece.begin:
                found.append(Likelihood(reason="the messages alone are longer than `max_length`"))
                continue
            found.append(Likelihood(None, len(kept) - piece.begin, len(kept) < len(piece.tokens)))
            pieces.append(Piece(row, kept, piece.begin))
        losses = self.losses(pieces)
        for piece, loss in zip(pieces, losses.tolist(), strict=True):
            known = found[piece.row]
            found[piece.row] = (
                Likelihood(loss, known.tokens, known.is_cut)
                if np.isfinite(loss)
                else Likelihood(None, known.tokens, known.is_cut, "the model gives no finite loss")
            )
        return found

    def _piece(self, row: int, messages: Chat, answer: str, tools: str | None) -> Piece | str:
        """Tokenise one conversation; the reason, where it cannot be."""
        names = tool_names(messages, tools)
        if not self._tokenizer.chat_template:
            return NEEDS_TOOLS.format("plain text") if names else self._plain(row, messages, answer)
        jinja: Any = optional("jinja2", extra="reward")
        template = partial(
            self._tokenizer.apply_chat_template, tools=None if tools is None else json.loads(tools)
        )
        try:
            text = template(messages, tokenize=False) if names else ""
            before = template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            answered = [*messages, {"role": "assistant", "content": answer}]
            whole = template(answered, add_generation_prompt=False, return_dict=True)["input_ids"]
        except (jinja.TemplateError, TypeError) as error:  # the latter where one joins a text and an object
            return f"the chat template refuses it: {' '.join(str(error).split())[:300]}"
        if not all(name in text for name in names):
            return NEEDS_TOOLS.format("chat template")
        same = (at for at, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b)
        begin = max(next(same, min(len(before), len(whole))), 1)  # the first token is predicted by nothing
        return Piece(row, whole, begin) if begin < len(whole) else "the chat template writes no answer"

    def _plain(self, row: int, messages: Chat, answer: str) -> Piece | str:
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        text = "\n\n".join(str(message["content"] or "") for message in messages) + _PLAIN
        before = [] if bos is None else [bos]
        before = before + self._tokenizer(text, add_special_tokens=False)["input_ids"]
        after = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
        end = [] if eos is None else [eos]
        return Piece(row, before + after + end, len(before)) if after else "the answer has no token"
