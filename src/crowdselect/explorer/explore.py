"""`explore`: a pool, or a selection of one, as a page that makes any choice by itself; in a file or in a notebook's cell."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError
from crowdselect.explorer.page import make_page
from crowdselect.explorer.payload import ORDERED, Payload, payload_of
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.progress import Stages
from crowdselect.report.page import frame
from crowdselect.selection.methods import CROWD, OF_STUDENT, is_weighted, method_of
from crowdselect.selection.options import Options
from crowdselect.selection.selection import Selection
from crowdselect.terminal import counted
from crowdselect.writing import check_output, new_file

_SHARE = 10  # a budget, where none is given: one row in ten


@dataclass(frozen=True, slots=True, repr=False)
class Explored:
    """A page about a pool, on which options are changed and the choice is made anew."""

    payload: Payload
    """What it is made of."""

    def __repr__(self) -> str:
        """One line, for example `Explored(pool.parquet: 60 instructions)`."""
        return f"Explored({self.payload.head['pool']}: {counted(self.payload.head['n'], 'instruction')})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame."""
        return frame(self.html(), title=repr(self))

    def html(self, *, made: Mapping[str, Any] | None = None) -> str:
        """Return the page.

        Args:
            made: As for `crowdselect.report.page.render`.
        """
        return make_page(self.payload.head, self.payload.packed, made=made)

    def write(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, made: Mapping[str, Any] | None = None
    ) -> Path:
        """Write the page.

        Args:
            path: The file to write.
            overwrite: Replace an existing file.
            made: As for `crowdselect.report.page.render`.

        Returns:
            The file.

        Raises:
            OutputError: It cannot be written, or exists.
        """
        target = check_output(path, inputs=[], overwrite=overwrite, folder=False)
        with new_file(target) as partial:
            partial.write_text(self.html(made=made), encoding="utf-8", newline="\n")
        return target


def explore(
    pool: Pool,
    options: Options | None = None,
    *,
    method: str | None = None,
    crowd: Crowd | None = None,
    crowd_file: str | None = None,
    saved: Selection | None = None,
    stages: Stages | None = None,
) -> Explored:
    """Make a page on which the whole selection is computed anew for any options, exactly as `select` computes it.

    Args:
        pool: The pool, with at most 200,000 instructions and the rewards of two models or more.
        options: What the page begins with; None = a tenth of the rows, else as usual. `near_duplicates` is left out.
        method: "crowd", "random", "easy", "teachable" or "teachable:plain", likewise; None = the crowd's metrics, with a student
            `teachable`.
        crowd: Family and size of the models; None reads them off the names.
        crowd_file: The file that they are from, which the page's command names.
        saved: A selection of this pool that the page compares with.
        stages: Times the stages and shows progress.

    Returns:
        The page: a notebook shows it, `write` writes it to a file.

    Raises:
        InputError: The pool is too large, has no rewards, or a single model.
        OptionError: A weight has more than six decimals or is beyond 1000, or the method is not one of these.

    Example:
        >>> import tempfile, pathlib
        >>> from crowdselect import Options, explore, open_pool
        >>> from crowdselect.simulate.pool import simulate
        >>> folder = tempfile.TemporaryDirectory()
        >>> pool_file = simulate(pathlib.Path(folder.name) / "pool.parquet", instructions=60)
        >>> with open_pool(pathlib.Path(folder.name) / "pool.parquet") as pool:
        ...     page = explore(pool, Options(budget=5, clusters=2)).write(pathlib.Path(folder.name) / "page.html")
        >>> page.name
        'page.html'
        >>> folder.cleanup()
    """
    if options is None:
        options = Options(budget=max(len(pool.id_array) * _SHARE // 100, 1))
    method = method or (OF_STUDENT if options.the_student.named else "crowd")
    payload = payload_of(
        pool, options, method=method, crowd=crowd, crowd_file=crowd_file, saved=saved, stages=stages
    )
    return Explored(payload)


def reopened(selection: Selection, path: str | None = None, *, crowd: Crowd | None = None) -> Pool:
    """Open a selection's pool, as much of it as was chosen from; the caller closes it.

    Args:
        selection: From `crowdselect.load_selection`.
        path: The pool's current path; None = the one in the manifest.
        crowd: That of the selection; None = read off the models' names.

    Raises:
        InputError: The pool is no longer there, or is another one now.
        OptionError: The crowd was read from a file, and none is given.
    """
    facts = selection.facts
    read_off = {
        (m.name, m.family, m.size_b) for m in Crowd.from_names(m["name"] for m in facts["crowd"]).members
    }
    if crowd is None and {(m["name"], m["family"], m["size_b"]) for m in facts["crowd"]} != read_off:
        raise OptionError("the selection was made with a crowd file; pass that file as `crowd`")
    read = HowRead.from_dict(facts["read"] if "read" in facts else {"layout": facts["layout"]})
    pool = open_pool(
        path or facts["pool"],
        read=read,
        rewards=facts["rewards"],
        limit=facts["limit"],
        seed=selection.options["seed"],
    )
    if pool.fingerprint() != facts["fingerprint"]:
        pool.close()
        raise InputError(
            f"{pool.path}: its content is not what the selection was made from; explore the pool itself, or select again"
        )
    return pool


def options_of(selection: Selection) -> tuple[Options, str]:
    """Give the options that a page of a selection begins with, and the method; those of other methods begin with the crowd's."""
    saved, names = selection.options, {each.name for each in fields(Options)}
    given: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in saved.items() if name in names
    }
    if not is_weighted(saved):
        given["weights"] = DEFAULT_WEIGHTS
    name = method_of(saved)
    name = "crowd" if name == CROWD.name else ":".join(filter(None, (name, saved.get("form"))))
    return Options(**given), name if name in ORDERED else "crowd"
