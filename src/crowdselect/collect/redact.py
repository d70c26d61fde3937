"""Keys never leave: their values are replaced in all that is stored or shown."""

from collections.abc import Iterable

from crowdselect.collect.endpoints import Endpoint, key

SHORT = 8  # shorter ones ("ollama", "EMPTY") are words: replaced in errors, but not in answers


class Redactor:
    """Replaces the values of known keys by the names of their variables.

    Example:
        >>> redact = Redactor({"MY_KEY": "sk-0123456789"})
        >>> redact.text("you sent sk-0123456789")
        'you sent [MY_KEY]'
    """

    def __init__(self, keys: dict[str, str]) -> None:
        """Take variables and their values; the longest is replaced first."""
        self._keys = sorted(keys.items(), key=lambda pair: -len(pair[1]))

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> "Redactor":
        """Know the keys of some endpoints."""
        found = {endpoint.api_key_env: key(endpoint) for endpoint in endpoints}
        return cls({name: value for name, value in found.items() if name is not None and value is not None})

    def text(self, text: str) -> str:
        """Replace keys in an answer."""
        for name, value in self._keys:
            if len(value) >= SHORT and value in text:
                text = text.replace(value, f"[{name}]")
        return text

    def error(self, text: str) -> str:
        """Replace keys in an error, short ones too."""
        for name, value in self._keys:
            text = text.replace(value, f"[{name}]")
        return text
