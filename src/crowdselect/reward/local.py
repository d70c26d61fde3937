"""A transformers reward model on this machine: conversations to tokens to batches to scores.

Conversations are truncated to the maximum length, and batched by length within a token budget.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import OptionError
from crowdselect.pool.prompts import chat_text
from crowdselect.reward.loading import PAIR, Card, LocalOptions, load_model, names_of, one_line, read_card
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.specs import Spec

_PADDING = 0.08  # maximum share of a batch; shorter conversations go into the next batch
_SMALL = 256  # tokens of a batch below which padding does not matter
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as tokens.

    Attributes:
        ids: None if the chat template refuses the conversation.
        types: Segment of each token, for models with token types.
        truncated: Whether it was cut.
        reason: Why there are no tokens; None if there are.
    """

    ids: list[int] | None
    types: list[int] | None = None
    truncated: bool = False
    reason: str | None = None


class LocalScorer(BaseScorer):
    """`hf:NAME_OR_PATH`: a sequence classifier; its weights are loaded with the first score."""

    def __init__(self, spec: Spec, options: LocalOptions) -> None:
        """Read configuration and tokenizer; see `loading.read_card` for what is refused."""
        self.padding = 0.0
        """Share of padding among the computed tokens."""
        self._named = spec
        self._card = read_card(spec, options)
        self._pad = self._card.config.get_text_config().pad_token_id
        self._budget = options.batch_tokens
        self._tokens = [0, 0]  # of conversations, and with padding
        filled = self._card.options
        template = (
            filled.chat_template if filled.chat_template == "pair" else self._card.tokenizer.chat_template
        )
        settings = {
            "kind": "hf",
            "model": Path(spec.target).name if Path(spec.target).is_dir() else spec.target,
            "revision": self._card.revision,
            "output": spec.part,
            "dtype": filled.dtype,
            "max_length": filled.max_length,
            "truncation_side": filled.truncation_side,
            "chat_template": template,
            "trust_remote_code": filled.trust_remote_code,
        }
        super().__init__(spec.text, settings)

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Score batch by batch, longest conversations first; see `Scorer.score`."""
        encoded = encode(items, self._card)
        refused = [(at, Outcome(reason=one.reason)) for at, one in enumerate(encoded) if one.ids is None]
        if refused:
            yield refused
        scorable = [at for at, one in enumerate(encoded) if one.ids is not None]
        lengths = [len(encoded[at].ids or ()) for at in scorable]
        waiting = [
            [scorable[at] for at in batch] for batch in reversed(batches(lengths, tokens=self._budget))
        ]
        while waiting:
            batch = waiting.pop()
            outcomes = self._tried([encoded[at] for at in batch])
            if outcomes is not None:
                yield list(zip(batch, outcomes, strict=True))
                continue
            if len(batch) > 1:  # it did not fit: try the halves, and keep later batches small
                self._shrink()
                half = len(batch) // 2
                waiting += [batch[half:], batch[:half]]
                continue
            reason = f"out of memory at {len(encoded[batch[0]].ids or ())} tokens; set `max_length`"
            yield [(batch[0], Outcome(reason=reason, passing=True))]

    def close(self) -> None:
        """Free the weights."""
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> Any:  # noqa: ANN401  (of transformers)
        return load_model(self._named, self._card)

    def _tried(self, batch: Sequence[Encoded]) -> list[Outcome] | None:
        """Score one batch; None if it does not fit into memory."""
        torch = optional("torch", extra="reward")
        model = self._model
        try:
            values = self._values(batch, model, torch)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not any(
                words in str(error) for words in _OUT_OF_MEMORY
            ):
                raise
            values = None
        if values is None:  # outside of the handler, which would keep the tensors of the failed call alive
            if self._card.options.device.startswith("cuda"):
                torch.cuda.empty_cache()
            return None
        width = max(len(one.ids or ()) for one in batch)
        self._tokens[0] += sum(len(one.ids or ()) for one in batch)
        self._tokens[1] += width * len(batch)
        self.padding = 1 - self._tokens[0] / self._tokens[1]
        return [outcome_of(value, truncated=one.truncated) for value, one in zip(values, batch, strict=True)]

    def _values(self, batch: Sequence[Encoded], model: Any, torch: Any) -> list[float]:  # noqa: ANN401  (of torch)
        rows = [one.ids or [] for one in batch]
        device = self._card.options.device
        inputs = {
            "input_ids": padded(rows, fill=self._pad_id(rows, model)).to(device),
            "attention_mask": padded([[1] * len(row) for row in rows], fill=0).to(device),
        }
        if all(one.types is not None for one in batch):
            inputs["token_type_ids"] = padded([one.types or [] for one in batch], fill=0).to(device)
        with torch.inference_mode():
            scores = self._pick(model(**inputs), len(batch), torch)
        return [float(value) for value in scores.float().cpu().tolist()]

    def _pad_id(self, rows: Sequence[list[int]], model: Any) -> int:  # noqa: ANN401  (of transformers)
        """Return the model's padding token: the model scores at the last token that is not padding.

        A model without one scores at the last token: any token that is in no row has the same effect.
        """
        if self._pad is not None:
            return int(self._pad)
        used = {token for row in rows for token in row}
        vocabulary = model.config.get_text_config().vocab_size
        free = next(token for token in range(vocabulary) if token not in used)
        for config in (model.config, model.config.get_text_config()):
            config.pad_token_id = free
        return free

    def _pick(self, output: Any, count: int, torch: Any) -> Any:  # noqa: ANN401  (of torch)
        """Return the requested number for each conversation."""
        part = self._named.part
        if part is None:
            own = (
                output if torch.is_tensor(output) else getattr(output, "score", None)
            )  # the model's own, as ArmoRM's
            found: Any = own if own is not None else output.logits
            if found.numel() == count:
                return found.reshape(count)
            raise self._unclear(f"gives {found.numel() // count} numbers for a conversation")
        labels = {str(name): int(at) for name, at in self._card.config.label2id.items()}
        name, _, number = part.partition(":")
        if part in labels or part.isdigit():
            name, number = "logits", str(labels.get(part, part))
        found = getattr(output, name, None)
        if not torch.is_tensor(found):
            raise self._unclear(f"has no output {part!r}")
        flat = found.reshape(count, -1)
        at = int(number) if number.isdigit() else 0 if flat.shape[1] == 1 and not number else math.inf
        if at >= flat.shape[1]:
            raise self._unclear(f"gives {flat.shape[1]} numbers as {name!r}")
        return flat[:, int(at)]

    def _unclear(self, what: str) -> OptionError:
        return OptionError(
            f"{self._named.target}: {what}; name one of its outputs ({names_of(self._card.config)}), or a field of "
            f"what its own code gives, as in hf:{self._named.target}#score or #rewards:3"
        )

    def _shrink(self) -> None:
        self._budget = max(self._budget // 2, 1)
        note = "a batch did not fit into memory, so batches were halved"
        if note not in self.notes:
            self.notes.append(note)


def encode(items: Sequence[Item], card: Card) -> list[Encoded]:
    """Tokenize conversations with the model's chat template, with at most one BOS.

    Args:
        items: The conversations.
        card: The model's configuration and tokenizer.

    Returns:
        One per item, truncated to the maximum length.
    """
    if card.options.chat_template == PAIR:
        pairs = [(chat_text(item.messages[:-1]) or "", item.messages[-1]["content"]) for item in items]
        return _tokens([pair[0] for pair in pairs], [pair[1] for pair in pairs], card)
    jinja = optional("jinja2", extra="reward")
    texts: list[str] = []
    refused: dict[int, str] = {}
    for at, item in enumerate(items):
        try:
            texts.append(card.tokenizer.apply_chat_template(item.messages, tokenize=False))
        except jinja.TemplateError as error:
            refused[at] = f"the chat template refuses it: {one_line(error)}"
    encoded = iter(_tokens(texts, None, card) if texts else [])
    return [Encoded(None, reason=refused[at]) if at in refused else next(encoded) for at in range(len(items))]


def batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Group sequences by length within a token budget, padding included.

    Args:
        lengths: The length of every sequence.
        tokens: Maximum tokens of a batch; a longer sequence is a batch by itself.

    Returns:
        Positions in `lengths`, longest sequences first, so that running out of memory shows at once.

    Example:
        >>> batches([5, 100, 6, 7], tokens=21)
        [[1], [3, 2, 0]]
    """
    groups: list[list[int]] = []
    used = 0
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        whole = (len(groups[-1]) + 1) * lengths[groups[-1][0]] if groups else 0
        padding = whole - used - lengths[at]
        if groups and whole <= tokens and (whole <= _SMALL or padding <= _PADDING * whole):
            groups[-1].append(at)
            used += lengths[at]
        else:
            groups.append([at])
            used = lengths[at]
    return groups


def cut(ids: list[int], *, most: int | None, side: str, first: int, last: int) -> list[int]:
    """Truncate a sequence, keeping `first` and `last` tokens at its ends.

    Args:
        ids: Tokens.
        most: Maximum length; None = no limit.
        side: `"right"` removes tokens from the end, `"left"` from the beginning.
        first: Number of tokens at the beginning to keep: a BOS.
        last: Number of tokens at the end to keep: a separator.

    Example:
        >>> cut([0, 1, 2, 3, 4, 9], most=4, side="left", first=1, last=1)
        [0, 3, 4, 9]
    """
    if most is None or len(ids) <= most:
        return ids
    body = ids[first : len(ids) - last]
    room = max(most - first - last, 1)
    kept = body[:room] if side == "right" else body[-room:]
    return ids[:first] + kept + (ids[-last:] if last else [])


def _tokens(texts: list[str], seconds: list[str] | None, card: Card) -> list[Encoded]:
    tokenizer, options = card.tokenizer, card.options
    # A template writes all special tokens itself, but an encoder still needs its CLS token.
    add = tokenizer.cls_token_id is not None
    tokenized = tokenizer(
        texts,
        seconds,
        add_special_tokens=add or seconds is not None,
        return_attention_mask=False,
        verbose=False,
    )
    types = tokenized.get("token_type_ids") or [None] * len(texts)
    begins = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    encoded = []
    for ids, segments in zip(tokenized["input_ids"], types, strict=True):
        while (
            len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins
        ):  # written by the template and added again
            ids, segments = ids[1:], None if segments is None else segments[1:]  # noqa: PLW2901  (the same, corrected)
        first = int(bool(ids) and ids[0] in begins)
        last = int(add and bool(ids) and ids[-1] == tokenizer.sep_token_id)

        def shortened(row: list[int], *, first: int = first, last: int = last) -> list[int]:
            return cut(row, most=options.max_length, side=options.truncation_side, first=first, last=last)

        kept = shortened(ids)
        encoded.append(
            Encoded(kept, None if segments is None else shortened(segments), truncated=len(kept) < len(ids))
            if kept
            else Encoded(None, reason="the chat template writes nothing for it")
        )
    return encoded


def padded(rows: Sequence[list[int]], *, fill: int) -> Any:  # noqa: ANN401  (a torch tensor)
    """Pad on the right, so that positions do not depend on the batch."""
    torch = optional("torch", extra="reward")
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
