"""A model on this machine that is asked several times with other settings: its weights are read once."""

from typing import Any

from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.local_client import LocalClient


class SharedModel(LocalClient):
    """A client whose tokenizer and model are those of the client before it.

    Args:
        endpoint: With a `local` model: a folder or a name on the hub; with peft also an adapter.
        shared: Where the tokenizer and the model are kept; one list per model.
    """

    def __init__(self, endpoint: Endpoint, shared: list[tuple[Any, Any]]) -> None:
        super().__init__(endpoint)
        self._shared = shared

    def _load(self) -> tuple[Any, Any]:
        if not self._shared:
            self._shared.append(super()._load())
        self._loaded = self._shared[0]
        return self._loaded
