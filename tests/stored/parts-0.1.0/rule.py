"""A score that needs no model; the keys of stored scores hold the bytes of this file."""


def length(conversations):
    """How many characters the answer has."""
    with open("scored.txt", "a", encoding="utf-8") as file:
        file.write("scored\n" * len(conversations))
    return [len(chat[-1]["content"]) for chat in conversations]
