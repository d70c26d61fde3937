"""Removes the values of keys from everything stored or shown, before any text is shortened."""

import html
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Protocol

SHORT = 8  # shorter keys ("ollama", "EMPTY") are ordinary words: replaced in errors, but not in answers
_WRITTEN = (
    6  # the most characters that one character of a key takes in a server's JSON or HTML: \u0041, &#x41;
)


class HasKey(Protocol):
    """Anything with a key, such as an endpoint."""

    @property
    def api_key_env(self) -> str | None:
        """The environment variable that holds the key."""


class Redactor:
    r"""Replaces the values of known keys by the names of their variables.

    A key is found verbatim, escaped as in JSON, URLs and HTML, and within Base64 (as in basic authentication).

    Example:
        >>> redact = Redactor({"MY_KEY": "sk-0123456789"})
        >>> redact.text("you sent sk-0123456789")
        'you sent [MY_KEY]'
        >>> redact.brief("you   sent sk\\u002d0123456789", 13)
        'you sent [MY_'
    """

    def __init__(self, keys: dict[str, str]) -> None:
        """Set variables and their values; the longest value is replaced first."""
        pairs = sorted(
            ((name, value) for name, value in keys.items() if value), key=lambda pair: -len(pair[1])
        )
        self._keys = [(f"[{name}]".replace("\\", ""), value, _pattern(value)) for name, value in pairs]

    @classmethod
    def of(cls, endpoints: Iterable[HasKey]) -> "Redactor":
        """Make a redactor for the keys of some endpoints."""
        return cls.of_variables(endpoint.api_key_env for endpoint in endpoints)

    @classmethod
    def of_variables(cls, names: Iterable[str | None]) -> "Redactor":
        """Make a redactor for the values of some environment variables."""
        return cls({name: os.environ.get(name, "").strip() for name in names if name is not None})

    def text(self, text: str) -> str:
        """Replace keys in an answer."""
        for name, value, pattern in self._keys:
            if len(value) >= SHORT:
                text = pattern.sub(name, text)
        return text

    def body(self, body: bytes) -> bytes:
        """Replace keys in the bytes of an answer."""
        return self.text(body.decode("latin-1")).encode("latin-1") if self._keys else body

    def error(self, text: str) -> str:
        """Replace keys in an error, short ones and the beginnings of keys that a server cut included."""
        for name, value, pattern in self._keys:
            text = pattern.sub(name, text)
            text = _without_beginnings(text, value, name)
        return text

    def brief(self, text: str, most: int) -> str:
        """Write an error on one line of at most `most` characters; keys are removed before it is cut."""
        return " ".join(self.error(text).split())[:most]

    def beginning(self, body: bytes, most: int) -> str:
        """Decode an error's body of which at most `most` bytes were read.

        If there may have been more, the end is dropped as far as it could hold part of a key.
        """
        text = self.error(body[:most].decode("utf-8", "replace"))
        longest = max((len(value) for _, value, _ in self._keys), default=0)
        return text[: max(0, len(text) - _WRITTEN * longest)] if len(body) >= most and longest else text

    def held(self, text: str) -> str | None:
        """Return the variable whose value occurs in a text; None if there is none, or only a short one."""
        names = (
            name[1:-1] for name, value, pattern in self._keys if len(value) >= SHORT and pattern.search(text)
        )
        return next(names, None)


def _pattern(value: str) -> re.Pattern[str]:
    """Match a key in every form that it may be written in."""
    written = "".join(map(_character, value))
    return re.compile("|".join([written, *map(re.escape, _in_base64(value))]))


def _character(character: str) -> str:
    """Match a character as it is, or escaped (once or several times) in JSON, Python, a URL or HTML."""
    code = f"{ord(character):02x}"
    digits = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
    ways = [f"%(?:25)*{digits}", rf"\\+(?:u00|x){digits}", rf"\\*{re.escape(character)}"]  # longest first
    ways = [f"&#0*{ord(character)};", f"&#[xX]0*{digits};", *ways]
    if html.escape(character) != character:
        ways.insert(0, re.escape(html.escape(character)))
    if character == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"


def _in_base64(value: str) -> Iterator[str]:
    """Yield what a key looks like within Base64, at each of the three byte offsets."""
    raw = value.encode()
    for before in range(3):
        begin, end = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        middle = b64encode(bytes(before) + raw).decode()[begin:end]
        if len(middle) >= SHORT:
            yield from {middle, middle.translate(str.maketrans("+/", "-_"))}


def _without_beginnings(text: str, value: str, name: str) -> str:
    """Replace truncated copies of a long key."""
    if len(value) < 2 * SHORT:
        return text
    begin = text.find(value[:SHORT])
    while begin >= 0:
        end = begin + SHORT
        while end < len(text) and end - begin < len(value) and text[end] == value[end - begin]:
            end += 1
        text = f"{text[:begin]}{name}{text[end:]}"
        begin = text.find(value[:SHORT], begin + len(name))
    return text
