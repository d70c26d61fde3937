"""Chat messages: from the JSON of a pool to {"role", "content"}, and to one text."""

import json
from typing import Any

Chat = list[dict[str, str]]


def parse_chat(written: str) -> Chat:
    """Read the messages of an instruction; what else a message holds is left out.

    Args:
        written: JSON, a list of {role, content}; null is no messages.

    Raises:
        ValueError: It is not that.

    Example:
        >>> parse_chat('[{"role": "user", "content": "Hi", "name": null}]')
        [{'role': 'user', 'content': 'Hi'}]
    """
    try:
        turns = json.loads(written)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if turns is None:
        return []
    if not isinstance(turns, list):
        raise ValueError("not a list")  # noqa: TRY004  (one kind of error for whatever the text is)
    return [_parse_turn(turn) for turn in turns]


def user_turn(text: str) -> Chat:
    """Make an instruction a chat of one message."""
    return [{"role": "user", "content": text}]


def chat_text(chat: Chat) -> str | None:
    """Write messages as one text: a lone user turn is its content, others are `role: content` blocks.

    Returns:
        The text; None where there is none.

    Example:
        >>> chat_text(user_turn("Hi"))
        'Hi'
        >>> print(chat_text([{"role": "system", "content": "Be brief."}, *user_turn("Hi")]))
        system: Be brief.
        <BLANKLINE>
        user: Hi
    """
    if len(chat) == 1 and chat[0]["role"] == "user":
        text = chat[0]["content"]
    else:
        text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in chat)
    return text if text.strip() else None


def _parse_turn(turn: Any) -> dict[str, str]:  # noqa: ANN401  (parsed JSON)
    if not isinstance(turn, dict):
        raise ValueError("not an object")  # noqa: TRY004  (as above)
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError("role or content is not a text")  # noqa: TRY004  (as above)
    return {"role": role, "content": content}
