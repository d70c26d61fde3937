"""Show `Example:` in docstrings as code, as `Examples:` is (an extension of Griffe, which reads the docstrings for the site)."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives the section the name that Griffe knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401  (Griffe's loader)
        """Rename the section in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", obj.docstring.value)
