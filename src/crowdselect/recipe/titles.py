"""What steps are called, by what makes them different from one another; and how times are written."""

from collections.abc import Mapping, Sequence

from crowdselect.recipe.reading import Variant


def titles_of(variants: Sequence[Variant], *, but: str | None = None) -> list[str]:
    """Name variants by their label and by the options in which those of that label differ."""
    found = []
    for variant in variants:
        alike = [other for other in variants if other.name == variant.name]
        names = dict.fromkeys(name for other in alike for name in other.options if name != but)
        differ = [name for name in names if len({repr(other.options.get(name)) for other in alike}) > 1]
        words = [f"{name} {_shown(variant.options[name])}" for name in differ if name in variant.options]
        found.append(" ".join([variant.name, *words]))
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
