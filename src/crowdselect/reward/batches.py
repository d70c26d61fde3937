"""Conversations to tokens to batches: cut to the longest length allowed, grouped by length within a budget of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crowdselect._optional import optional
from crowdselect.pool.prompts import chat_text
from crowdselect.reward.loading import PAIR, Card, one_line
from crowdselect.reward.protocol import Item

_PADDING = 0.08  # of a batch at most, or what is shorter goes into the next
_SMALL = 256  # tokens of a batch whose padding is not worth another one


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as tokens.

    Attributes:
        ids: None where the chat template refuses the conversation.
        types: Segment of each token, for models that tell a pair's texts apart.
        truncated: It was longer.
        reason: Why there are no tokens.
    """

    ids: list[int] | None
    types: list[int] | None = None
    truncated: bool = False
    reason: str | None = None


def encode(items: Sequence[Item], card: Card) -> list[Encoded]:
    """Turn conversations into tokens, as the model's own template writes them, with one BOS at most.

    Args:
        items: Any.
        card: The model's.

    Returns:
        One per item, no longer than the longest length allowed.
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
    found = iter(_tokens(texts, None, card) if texts else [])
    return [Encoded(None, reason=refused[at]) if at in refused else next(found) for at in range(len(items))]


def batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Group by length within a budget of tokens, padding included.

    Args:
        lengths: Of every sequence.
        tokens: The most that a batch may hold; a longer sequence is a batch of its own.

    Returns:
        Places in `lengths`, the longest sequences first: what does not fit into memory fails at once.

    Example:
        >>> batches([5, 100, 6, 7], tokens=21)
        [[1], [3, 2, 0]]
    """
    found: list[list[int]] = []
    held = 0
    for at in sorted(range(len(lengths)), key=lambda at: -lengths[at]):
        whole = (len(found[-1]) + 1) * lengths[found[-1][0]] if found else 0
        padding = whole - held - lengths[at]
        if found and whole <= tokens and (whole <= _SMALL or padding <= _PADDING * whole):
            found[-1].append(at)
            held += lengths[at]
        else:
            found.append([at])
            held = lengths[at]
    return found


def cut(ids: list[int], *, most: int | None, side: str, first: int, last: int) -> list[int]:
    """Cut a sequence to a length, keeping so many tokens at its ends.

    Args:
        ids: Tokens.
        most: The most there may be; None = any number.
        side: `"right"` takes away from the end, `"left"` from the beginning.
        first: Tokens at the beginning that stay: a BOS.
        last: Tokens at the end that stay: a separator.

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
    # A template writes all special tokens itself; what an encoder reads its score from must be there all the same.
    add = tokenizer.cls_token_id is not None
    made = tokenizer(
        texts,
        seconds,
        add_special_tokens=add or seconds is not None,
        return_attention_mask=False,
        verbose=False,
    )
    types = made.get("token_type_ids") or [None] * len(texts)
    begins = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    found = []
    for ids, segments in zip(made["input_ids"], types, strict=True):
        while (
            len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins
        ):  # written by the template and added again
            ids, segments = ids[1:], None if segments is None else segments[1:]  # noqa: PLW2901  (the same, mended)
        first = int(bool(ids) and ids[0] in begins)
        last = int(add and bool(ids) and ids[-1] == tokenizer.sep_token_id)

        def shortened(row: list[int], *, first: int = first, last: int = last) -> list[int]:
            return cut(row, most=options.max_length, side=options.truncation_side, first=first, last=last)

        kept = shortened(ids)
        found.append(
            Encoded(kept, None if segments is None else shortened(segments), truncated=len(kept) < len(ids))
            if kept
            else Encoded(None, reason="the chat template writes nothing for it")
        )
    return found


def padded(rows: Sequence[list[int]], *, fill: int) -> Any:  # noqa: ANN401  (a torch tensor)
    """Pad on the right, where positions do not depend on the batch."""
    torch = optional("torch", extra="reward")
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])
