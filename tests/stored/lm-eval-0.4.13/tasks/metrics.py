"""A metric of our own, of which lower is better."""


def extra_letters(references: list[str], predictions: list[str]) -> float:
    """By how many letters the answer is longer than the reference."""
    return float(max(len(predictions[0]) - len(references[0]), 0))
