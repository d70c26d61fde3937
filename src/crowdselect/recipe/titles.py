"""What steps are called, by what makes them different from one another; and how times are written."""

from collections.abc import Collection, Mapping, Sequence

from crowdselect.recipe.reading import Variant


def titles_of(variants: Sequence[Variant], *, but: Collection[str] = ()) -> list[str]:
    """Name variants by their label and by the options in which those of that label differ.

    Args:
        variants: Of one table, or of several.
        but: Options that are left out.
    """
    found = []
    for variant in variants:
        alike = [other for other in variants if other.name == variant.name]
        words = [variant.name]
        for name in dict.fromkeys(name for other in alike for name in other.options if name not in but):
            values = {repr(other.options.get(name)): other.options.get(name) for other in alike}
            if len(values) > 1 and name in variant.options:
                short = len({_shown(value) for value in values.values()}) == len(values)
                value = variant.options[name]
                words.append(f"{name} {_shown(value) if short else plain_name(str(value))}")
        found.append(" ".join(words))
    return found


def _shown(value: object) -> str:
    """Write a value for people, without what an argument NAME=DIR,DIR gives a meaning."""
    if isinstance(value, Mapping):
        return " ".join(f"{name} {number:g}" for name, number in value.items())
    if isinstance(value, list):
        return "+".join(_shown(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return plain_name(text.rstrip("/").rpartition("/")[2] or text)


def plain_name(text: str) -> str:
    """Write a name without what separates names in a comparison.

    Example:
        >>> plain_name("weights a=1,b=2")
        'weights a 1 b 2'
    """
    return " ".join(text.replace("=", " ").replace(",", " ").split())


def spoken(seconds: float) -> str:
    """Write a time for people.

    Example:
        >>> spoken(3.21), spoken(75), spoken(7260)
        ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
