"""Models and judges renamed in the crowd file: their answers in the ledger are reused, not paid for again."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crowdselect.ask.calls import request_key
from crowdselect.ask.endpoints import Endpoint, load_endpoints, settings_digest, settings_text
from crowdselect.ask.ledger import SAVE_NOTE, SAVE_SETTINGS, Ledger
from crowdselect.ask.refused import REFUSED, accepted, renamed_refusals


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Answers that a new name takes over from a former one.

    Attributes:
        before: The name in the ledger.
        answers: Number of its answers to requests that the new name sends too.
    """

    before: str
    answers: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """Models and judges with another name than before.

    Attributes:
        taken: New name → the answers it takes over.
        notes: New name → a line for the user: what is taken over, or why nothing is.
    """

    taken: Mapping[str, TakeOver]
    notes: Mapping[str, str]

    def before(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint under its name in the ledger, valid until its answers are taken over."""
        found = self.taken.get(endpoint.name)
        return endpoint if found is None else replace(endpoint, name=found.before)


NOBODY = Renamed({}, {})


def names_in(*paths: str) -> set[str]:
    """Return the names of all models and judges in some crowd files."""
    return {name for path in paths for name in load_endpoints(path).names}


def find_renamed(
    ledger: Ledger | None, endpoints: Sequence[Endpoint], *, present: Collection[str]
) -> Renamed:
    """Find endpoints that were asked before under another name; nothing is written.

    A name without answers in the ledger takes over those of the one name that sent the same requests (equal
    settings except the name) and is no longer in the crowd file. If several names match on either side, nothing is
    taken over: two servers that both call their model `default` get the same requests but are two models.

    Args:
        ledger: None = there is none yet.
        endpoints: The endpoints to ask; equal names are one model with several settings.
        present: All names in the crowd file.

    Returns:
        Which names take over which answers, and lines for the user.
    """
    known = {} if ledger is None else ledger.spent()
    new = [endpoint for endpoint in endpoints if endpoint.name not in known]
    if ledger is None or not new or not known:
        return NOBODY
    asked = ledger.settings()
    gone: dict[str, dict[str, int]] = {}
    for before in sorted({settings["name"] for settings in asked.values()} & set(known) - set(present)):
        for endpoint in new:
            digest = accepted(ledger, replace(endpoint, name=before)).digest
            count = ledger.count(digest) if digest in asked else 0
            if count:
                found = gone.setdefault(endpoint.name, {})
                found[before] = found.get(before, 0) + count
    return _decided(gone)


def former_names(ledger: Ledger, renamed: Renamed, name: str) -> set[str]:
    """Return all former names in the ledger of one name.

    Args:
        ledger: The ledger.
        renamed: Answers still to be taken over.
        name: The current name.
    """
    before = _renamings(ledger) | {new: taken.before for new, taken in renamed.taken.items()}
    former: set[str] = set()
    while name in before and before[name] not in former:
        name = before[name]
        former.add(name)
    return former


def take_over(
    ledger: Ledger,
    endpoints: Sequence[Endpoint],
    *,
    present: Collection[str],
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Move the answers of renamed models to their new names; see `find_renamed`.

    Args:
        ledger: Where the answers are.
        endpoints: The endpoints to ask.
        present: All names in the crowd file.
        tell: Called with each line for the user after all answers are moved; None = no one is told.

    Returns:
        The lines for the user.

    Raises:
        LedgerError: It cannot be written; nothing was changed.
    """
    found = find_renamed(ledger, endpoints, present=present)
    for name, taken in found.taken.items():
        rename(ledger, taken.before, name)
    for line in found.notes.values():
        if tell is not None:
            tell(line)
    return list(found.notes.values())


def rename(ledger: Ledger, before: str, name: str) -> None:
    """Move everything recorded under one name to another, as if it had been asked under that.

    Args:
        ledger: Where the answers are.
        before: The name with answers.
        name: A name with nothing in the ledger.

    Raises:
        LedgerError: It cannot be written; nothing was changed.
    """
    texts = {
        digest: settings_text(settings | {"name": name})
        for digest, settings in ledger.settings().items()
        if settings["name"] == before
    }
    digests = {old: settings_digest(text) for old, text in texts.items()}
    renamings = json.dumps(_renamings(ledger) | {name: before})
    refusals = json.dumps(renamed_refusals(ledger, before, name))

    def moved(reader: sqlite3.Connection) -> Iterator[tuple[bytes, str, bytes, int]]:
        """Yield the updates of rows: the requests' keys under the new name.

        Rows with other settings stay: they are scores, whose keys contain no request.
        """
        sql = "SELECT number, settings, prompt, sample FROM answers WHERE model = ?"
        for number, old, prompt, sample in reader.execute(sql, (before,)):
            if old in digests:
                yield request_key(digests[old], prompt, sample), name, digests[old], number

    def act(writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        update = "UPDATE answers SET key = ?, model = ?, settings = ? WHERE number = ?"
        writer.executemany(update, moved(reader))
        writer.execute("UPDATE spent SET model = ? WHERE model = ?", (name, before))
        writer.executemany(SAVE_SETTINGS, [(digests[old], text) for old, text in texts.items()])
        writer.execute(SAVE_NOTE, ("renamed", renamings))
        writer.execute(SAVE_NOTE, (REFUSED, refusals))

    ledger.rewrite(act)


def _renamings(ledger: Ledger) -> dict[str, str]:
    """Return the renamings so far: new name → former name."""
    return dict(ledger.noted("renamed") or {})


def _decided(gone: Mapping[str, Mapping[str, int]]) -> Renamed:
    """Match each new name with a former one if the match is unique on both sides."""
    taken: dict[str, TakeOver] = {}
    notes: dict[str, str] = {}
    for name, before in gone.items():
        old = next(iter(before))
        others = [other for other, given in gone.items() if other != name and set(given) & set(before)]
        if len(before) > 1:
            notes[name] = (
                f"{name!r} takes over no answers: {_listed(before)} sent the same requests; "
                "to use the answers of one, give it that name in the crowd file"
            )
        elif others:
            notes[name] = (
                f"{name!r} takes over no answers of {old!r}: {_listed(others)} could as well; "
                f"to use them, name the right one {old!r} in the crowd file"
            )
        else:
            taken[name] = TakeOver(old, before[old])
            notes[name] = (
                f"{name!r} takes over {before[old]:,} answers of {old!r}, which sent the same requests and is no "
                "longer in the crowd file; if it is another model, use another `ledger`"
            )
    return Renamed(taken, notes)


def _listed(names: Collection[str]) -> str:
    *most, last = map(repr, sorted(names))
    return f"{', '.join(most)} and {last}" if most else last
