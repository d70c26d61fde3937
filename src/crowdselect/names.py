"""What a model's name says about its family and its size.

Stability compares a model's reward with its size inside its family, so a wrong family is worse
than none. Two rules follow. What a name does not state stays unknown; and the family is the whole
rest of the name without its size, so that somebody's fine-tune of a known model never joins that
model's family by accident: when in doubt, a model is a family of its own.
"""

import re
from collections.abc import Sequence

# Sizes that a name states as a word, which means a size in these series only.
_SIZE_WORDS: dict[tuple[str, ...], float] = {
    ("phi", "3", "mini"): 3.8,
    ("phi", "3", "small"): 7.0,
    ("phi", "3", "medium"): 14.0,
    ("phi", "3.5", "mini"): 3.8,
    ("phi", "4", "mini"): 3.8,
    ("llama", "4", "scout"): 109.0,
    ("llama", "4", "maverick"): 400.0,
}
# Published totals of mixtures of experts. Experts share their attention layers, so the total is not
# the product; for a shape that is not listed here, the name does not tell the size.
_MIXTURES = {"8x7b": 46.7, "8x22b": 141.0}

_ORGANISATION = re.compile(r"^.*(?:/|__)(?=.)", re.DOTALL)
_PROVIDER = re.compile(r"(?<=.)@.*$|:(?:free|nitro|floor|latest)$", re.DOTALL)
_QUANTISED_FILE = re.compile(r"[-_.:](?:ud[-_])?i?q[2-8](?:_[a-z0-9]+)*(?=$|[-.])|\.gguf$")
_QUANTISED = re.compile(
    r"(?:awq|gptq|gguf|ggml|exl[23]|mlx|bnb|hqq|marlin|g?int[2-8]|[2-8]bits?|n?fp(?:4|8|16|32)|nvfp4|mxfp[48]|"
    r"nf4|[bf]f?16|w[48]a(?:8|16)|hf)"
)
_DECIMAL_MARK = re.compile(r"(?<=-)([01])_([0-9])(?=b(?:-|$))")  # stablelm-2-1_6b
_BREAKS = re.compile(r"[\s_:,()\[\]-]+")
_BILLIONS = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)b")
_BILLIONS_INSIDE = re.compile(r"([0-9]{1,3})b([0-9])")  # bloom-7b1 is 7.1b
_MILLIONS = re.compile(r"([1-9][0-9]{1,3})m")  # one digit is a context length: Qwen2.5-7B-Instruct-1M
_MIXTURE = re.compile(r"[0-9]{1,3}x[0-9]{1,4}(?:\.[0-9]{1,3})?b")
# Active (A3B) and effective (E4B) parameters are not the total, and the number before 16E is one expert's.
_PARTIAL = re.compile(r"[ae][0-9]{1,4}(?:\.[0-9]{1,3})?[bm]")
_EXPERTS = re.compile(r"(?:[89]|[1-9][0-9]{1,2})e")  # fewer are epochs
_VERSION_P = re.compile(r"v([0-9]+)p([0-9]+)")  # llama-v3p1: a host's spelling of 3.1


def read_name(name: str) -> tuple[str | None, float | None]:
    """Read a model's family and size off its name.

    The name is taken in lower case, without organisation (`org/`, `org__`), host (`@host`), quantisation
    (`AWQ`, `GPTQ-Int4`, `Q4_K_M`, `fp8`, ...) and a leading `Meta-` before Llama. The size is its one
    number of billions (`7B`, `0.5B`, `135M`), a known mixture's total (`8x7B`), or a word of a series
    that has one (`Phi-3-mini`). The family is all the rest, `instruct`, `chat`, dates and versions
    included: another release or another tuning is another family.

    Args:
        name: A model's name.

    Returns:
        Family and size in billions of parameters. The size is None where the name states none, states two
        different ones, or only part of it (active parameters, one expert). The family is None where the
        name has no word for size, because then the series cannot be told from its member.

    Example:
        >>> read_name("Qwen/Qwen2.5-7B-Instruct-AWQ"), read_name("Phi-3-mini-128k-instruct")
        (('qwen2.5-instruct', 7.0), ('phi-3-128k-instruct', 3.8))
        >>> read_name("allenai__OLMo-2-1124-7B"), read_name("gpt-4o-2024-08-06")
        (('olmo-2-1124', 7.0), (None, None))
    """
    words = _words(name)
    index, stated = _size_word(words)
    rest = [word for i, word in enumerate(words) if i != index and not _states_size(word, words)]
    if len(rest) == len(words):
        return None, None
    return "-".join(rest) or None, _size(words) if stated is None else stated


def _words(name: str) -> list[str]:
    """Split a name into the words that describe the model itself."""
    text = _PROVIDER.sub("", _ORGANISATION.sub("", name.strip().rstrip("/"))).lower()
    text = _DECIMAL_MARK.sub(r"\1.\2", _QUANTISED_FILE.sub("", text))
    words: list[str] = []
    for word in filter(None, _BREAKS.split(text)):
        after_fp8 = word == "dynamic" and "fp8" in text
        host_copy = word == "turbo" and words[-1:] == ["instruct"]  # a host's faster copy of the same weights
        if not (_QUANTISED.fullmatch(word) or after_fp8 or host_copy):
            words.append(_VERSION_P.sub(r"\1.\2", "instruct" if word == "inst" else word))
    if words[:1] == ["meta"] and words[1:2] and words[1].startswith("llama"):
        words = words[1:]
    return words


def _size_word(words: Sequence[str]) -> tuple[int, float | None]:
    """Return index and size of a word that means a size in its series; (-1, None) without one."""
    for series, size_b in _SIZE_WORDS.items():
        for start in range(len(words) - len(series) + 1):
            if tuple(words[start : start + len(series)]) == series:
                return start + len(series) - 1, size_b
    return -1, None


def _states_size(word: str, words: Sequence[str]) -> bool:
    """Tell whether a word states a size; millions beside billions count something else."""
    if _MILLIONS.fullmatch(word):
        return not any(_BILLIONS.fullmatch(other) for other in words)
    return any(
        pattern.fullmatch(word) for pattern in (_BILLIONS, _BILLIONS_INSIDE, _MIXTURE, _PARTIAL, _EXPERTS)
    )


def _size(words: Sequence[str]) -> float | None:
    """Return the one total that the words state, or None."""
    mixtures = [word for word in words if _MIXTURE.fullmatch(word)]
    if mixtures:
        return _MIXTURES.get(mixtures[0]) if len(mixtures) == 1 else None
    if any(_EXPERTS.fullmatch(word) for word in words):
        return None
    billions = {float(match[1]) for word in words if (match := _BILLIONS.fullmatch(word))}
    billions |= {
        float(f"{match[1]}.{match[2]}") for word in words if (match := _BILLIONS_INSIDE.fullmatch(word))
    }
    millions = {float(match[1]) / 1000 for word in words if (match := _MILLIONS.fullmatch(word))}
    sizes = billions or millions
    size_b = sizes.pop() if len(sizes) == 1 else 0.0
    return size_b if size_b > 0 else None
