"""Names of columns that say whose they are and what they hold: `response_MODEL`, `MODEL Answer`, `MODEL (score)`."""

import re
from collections.abc import Iterable, Sequence

ANSWERS = ("response", "answer", "output", "completion")
"""What the columns of answers are called beside the name of a model."""
SCORES = ("score", "reward", "rating", "correct", "grade", "points")
"""What the columns of scores are called beside it."""

_APART = r"(?:[\s_.:-]+)"
_BOTH = {
    word: (
        re.compile(rf"{word}(?:{_APART}?[(\[](?P<inside>.+)[)\]]|{_APART}(?P<plain>.+))", re.IGNORECASE),
        re.compile(
            rf"(?P<plain>.*?[^\s_.:-])(?P<inside>){_APART}?(?:[(\[]{word}[)\]]|(?<=[\s_.:-]){word})",
            re.IGNORECASE,
        ),
    )
    for word in (*ANSWERS, *SCORES)
}
_IS_SCORE = re.compile(r"(?i)(^|[\s_.:(-])(score|reward|rating)($|[\s_.:)-])")


def is_score(name: str) -> bool:
    """Say whether a column holds a score of one model by its name.

    Example:
        >>> is_score("oak-7b score"), is_score("score_oak-7b"), is_score("oak-7b (score)"), is_score("oak-7b")
        (True, True, True, False)
    """
    return _IS_SCORE.search(name) is not None


def models_in(name: str, words: Sequence[str]) -> dict[tuple[str, bool], str]:
    """Find the models that a column may be of, by its name.

    Args:
        name: Of the column.
        words: What it may hold.

    Returns:
        (word, whether it stands first) → the model.

    Example:
        >>> models_in("GPT-4 (June) Score", SCORES), models_in("reward: oak-7b", SCORES)
        ({('score', False): 'GPT-4 (June)'}, {('reward', True): 'oak-7b'})
        >>> models_in("oak-7b (answer)", ANSWERS), models_in("Score", SCORES)
        ({('answer', False): 'oak-7b'}, {})
    """
    found = {
        (word, first): match
        for word in words
        for first, pattern in zip((True, False), _BOTH[word], strict=True)
        if (match := pattern.fullmatch(name.strip())) is not None
    }
    return {key: match["inside"] or match["plain"] for key, match in found.items()}


def spelt(model: str) -> str:
    """A name in small letters, without spaces."""
    return model.casefold().replace(" ", "_")


def is_named_as(name: str, scored: Iterable[str]) -> bool:
    """Say whether a column holds the scores of a model by its name, where others do: of one of theirs, or as theirs are called.

    Example:
        >>> is_named_as("oak score", ["elm score"]), is_named_as("score_oak", ["oak", "elm"]), is_named_as("score_type", ["oak"])
        (True, True, False)
    """
    others = {other: models_in(other, SCORES) for other in scored}
    forms = {form for found in others.values() for form in found}
    models = {*others, *(model for found in others.values() for model in found.values())}
    return any(form in forms or model in models for form, model in models_in(name, SCORES).items())


def columns_by_model(columns: Iterable[str]) -> dict[str, str]:
    """Say which model each column of a matrix is of: where most are MODEL_reward or reward_MODEL, these are, of MODEL.

    Example:
        >>> columns_by_model(["b_reward", "a_reward"]), columns_by_model(["a", "b_reward"])
        ({'a': 'a_reward', 'b': 'b_reward'}, {'a': 'a', 'b_reward': 'b_reward'})
        >>> columns_by_model(["a Score", "b Score", "Words"])
        {'a': 'a Score', 'b': 'b Score'}
    """
    names = list(columns)
    models = {name: models_in(name, SCORES) for name in names}
    for word in SCORES:
        for first in (False, True):
            named = {name: found[word, first] for name, found in models.items() if (word, first) in found}
            bare = {model: name for name, model in named.items()}
            if 1 < len(bare) == len(named) > len(names) / 2 and not set(bare) & set(names):
                return dict(sorted(bare.items()))
    return {name: name for name in sorted(names)}
