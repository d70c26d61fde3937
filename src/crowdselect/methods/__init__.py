"""Ways to score rows, a file each: the function that makes the method, with its source, arguments and errors.

from crowdselect.methods import METHODS
select(pool, Options(budget=1000, clusters=0), method=METHODS["length"](of="answer"))

A new one is a file here and a line in `METHODS`. CrowdSelect's own is `crowdselect.selection.methods.CROWD`.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from crowdselect.selection.methods import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A method in the registry; its module is loaded when it is made, so that help is quick.

    Example:
        >>> METHODS["length"](of="answer").settings["of"]
        'answer'
    """

    make: "str | Callable[..., Method]"
    """The function that makes it, or where it is: `module:function`, in this package."""
    help: str
    """What it chooses, in one line."""
    drawn: bool = False
    """It is a draw: selections that differ in their seed only count as several draws of one."""

    def __call__(self, **arguments: Any) -> "Method":  # noqa: ANN401  (those of the function)
        """Make the method."""
        if not isinstance(self.make, str):
            return self.make(**arguments)
        module, name = self.make.split(":")
        made: Method = getattr(import_module(f"{__name__}.{module}"), name)(**arguments)
        return made


METHODS: dict[str, Entry] = {
    "random": Entry(
        make="random_choice:random_choice",
        help="Random rows; with --clusters, as many from each.",
        drawn=True,
    ),
    "length": Entry(make="length:by_length", help="The longest or shortest instructions or answers."),
    "reward": Entry(make="reward:by_reward", help="The highest or lowest reward of the best answer."),
    "tags": Entry(make="tags:by_tags", help="Many tags first, each row adding one (InsTag)."),
    "direct-score": Entry(make="column:by_direct_score", help="The best marks of a judge (AlpaGasus)."),
    "ifd": Entry(make="ifd:by_ifd", help="Instruction-following difficulty under a language model."),
    "deita": Entry(
        make="deita:deita",
        help="Complexity x quality, passing over near-duplicates (--near-duplicates, 0.9 if not given).",
    ),
    "facility-location": Entry(
        make="facility_location:facility_location", help="Rows that stand for all others."
    ),
}
"""The methods by the names that commands and manifests know."""
