"""Conversations written for a server on this side, with the model's own tokenizer."""

from collections.abc import Sequence
from types import SimpleNamespace

from crowdselect._optional import optional
from crowdselect.errors import InputError
from crowdselect.reward.batches import encode
from crowdselect.reward.loading import Card, LocalOptions, one_line
from crowdselect.reward.protocol import Item
from crowdselect.reward.shapes import Written


class Writer:
    """Writes conversations as the served model's tokenizer does.

    Args:
        name: The tokenizer's name or folder.
        max_length: The most tokens; None = as many as the tokenizer says.
    """

    def __init__(self, name: str, *, max_length: int | None) -> None:
        transformers = optional("transformers", extra="reward")
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"--tokenizer {name}: cannot be loaded: {one_line(error)}") from error
        if not tokenizer.chat_template:
            raise InputError(
                f"--tokenizer {name}: has no chat template, so how a conversation is written is unknown"
            )
        limit = tokenizer.model_max_length if tokenizer.model_max_length < 1_000_000_000 else None
        options = LocalOptions(max_length=max_length or limit, truncation_side=tokenizer.truncation_side)
        self._card = Card(SimpleNamespace(), tokenizer, options, "")
        bos = tokenizer.bos_token
        self._own = (
            bos if bos is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else None
        )

    def write(self, items: Sequence[Item]) -> list[Written]:
        """Write each as tokens and as text; the text has no BOS where the tokenizer of the server adds one."""
        made = []
        for item, one in zip(items, encode(items, self._card), strict=True):
            text = None if one.ids is None else self._card.tokenizer.decode(one.ids)
            if text is not None and self._own is not None:
                text = text.removeprefix(self._own)
            made.append(Written(item.messages, one.ids, text, one.truncated, one.reason))
        return made
