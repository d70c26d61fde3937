"""A model or judge that has another name in the crowd file than in the ledger: its answers are not paid again."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crowdselect.ask.calls import request_key
from crowdselect.ask.endpoints import Endpoint, load_endpoints, settings_digest, settings_text
from crowdselect.ask.ledger import SAVE_NOTE, SAVE_SETTINGS, Ledger


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Answers that go from one name to another.

    Attributes:
        before: The name in the ledger.
        answers: How many there are to the requests that the new name sends.
    """

    before: str
    answers: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """Who has another name than before.

    Attributes:
        taken: New name → what it takes over.
        notes: New name → what to tell the user: what is taken over, or why nothing is.
    """

    taken: Mapping[str, TakeOver]
    notes: Mapping[str, str]

    def before(self, endpoint: Endpoint) -> Endpoint:
        """Give an endpoint as the ledger knows it until the answers are handed over."""
        found = self.taken.get(endpoint.name)
        return endpoint if found is None else replace(endpoint, name=found.before)


NOBODY = Renamed({}, {})


def names_in(*paths: str) -> set[str]:
    """Give the names of all models and judges of some crowd files."""
    return {name for path in paths for name in load_endpoints(path).names}


def find_renamed(
    ledger: Ledger | None, endpoints: Sequence[Endpoint], *, present: Collection[str]
) -> Renamed:
    """Find out who was asked before under another name; nothing is written.

    A name that has nothing in the ledger takes over the answers of the one name that sent the same requests (its
    settings are the same but for the name) and is no longer in the crowd file. Where several could give, or several
    could take, nobody does: two servers that both call their model `default` get the same requests and are two models.

    Args:
        ledger: None = there is none yet.
        endpoints: Who is asked; those of one name are one, asked in several ways.
        present: All names of the crowd file.

    Returns:
        Who takes over what, and what to tell the user.
    """
    known = {} if ledger is None else ledger.spent()
    new = [one for one in endpoints if one.name not in known]
    if ledger is None or not new or not known:
        return NOBODY
    asked = ledger.settings()
    gone: dict[str, dict[str, int]] = {}
    for before in sorted({settings["name"] for settings in asked.values()} & set(known) - set(present)):
        for one in new:
            digest = replace(one, name=before).digest
            count = ledger.count(digest) if digest in asked else 0
            if count:
                found = gone.setdefault(one.name, {})
                found[before] = found.get(before, 0) + count
    return _decided(gone)


def former_names(ledger: Ledger, renamed: Renamed, name: str) -> set[str]:
    """Give all names that somebody had in the ledger before this one.

    Args:
        ledger: The ledger.
        renamed: What is still to be handed over.
        name: The name of today.
    """
    before = _renamings(ledger) | {new: taken.before for new, taken in renamed.taken.items()}
    found: set[str] = set()
    while name in before and before[name] not in found:
        name = before[name]
        found.add(name)
    return found


def take_over(
    ledger: Ledger,
    endpoints: Sequence[Endpoint],
    *,
    present: Collection[str],
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Hand the answers of renamed models over to their new names; see `find_renamed`.

    Args:
        ledger: Where the answers are.
        endpoints: Who is asked.
        present: All names of the crowd file.
        tell: Given each of the facts once all is handed over; None = nobody.

    Returns:
        Facts to tell the user.

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
    """Hand everything of one name over to another, as if it had been asked under that.

    Args:
        ledger: Where the answers are.
        before: The name that has answers.
        name: One that has nothing in the ledger.

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

    def moved(reader: sqlite3.Connection) -> Iterator[tuple[bytes, str, bytes, int]]:
        """Give rows with the keys that the requests have under the new name.

        Rows of other settings stay: they are scores, whose keys hold no request.
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

    ledger.rewrite(act)


def _renamings(ledger: Ledger) -> dict[str, str]:
    """Say which names have what was asked under another: new name → the one before."""
    return dict(ledger.noted("renamed") or {})


def _decided(gone: Mapping[str, Mapping[str, int]]) -> Renamed:
    """Let each take over from one, where it is the only one to do so."""
    taken: dict[str, TakeOver] = {}
    notes: dict[str, str] = {}
    for name, before in gone.items():
        old = next(iter(before))
        others = [other for other, given in gone.items() if other != name and set(given) & set(before)]
        if len(before) > 1:
            notes[name] = (
                f"{name!r} takes over no answers: {_listed(before)} sent the same requests; "
                "to go on with the answers of one, give it that name in the crowd file"
            )
        elif others:
            notes[name] = (
                f"{name!r} takes over no answers of {old!r}: {_listed(others)} could as well; "
                f"to go on with them, call the one that it was {old!r} in the crowd file"
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
