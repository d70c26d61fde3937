"""A finished selection as a data set of the Hub: what goes up, what stays here, and one commit."""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.manifests import MANIFEST, files_in, own_files
from crowdselect.pool.hub import HUB, hub_address
from crowdselect.selection.folder import license_in, licensed, load_selection

CARD = "README.md"
_NOT_OURS = frozenset({".gitattributes"})
"""What the Hub puts into a new data set by itself."""
_FAILURES = {
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
    "ConnectError": "it cannot be reached; check the connection, and run the same again",
    "TimeoutException": "it did not answer in time; run the same again",
}
"""Kind of error of huggingface_hub, or of HTTP below it → what to tell."""
_REFUSALS = {
    401: "it does not accept the token; log in anew with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there; check the owner's name, and that the token has write access",
}
"""Status of HTTP → what to tell."""
_LONGEST = 300  # characters of what the Hub says


@dataclass(frozen=True, slots=True)
class Upload:
    """What goes up, and what does not.

    Attributes:
        repo: OWNER/NAME.
        files: Name in the data set → the file, or its content where that differs from the folder's.
        left: Other files of the folder → why they stay here.
        summary: What the commit is called.
    """

    repo: str
    files: Mapping[str, Path | bytes]
    left: Mapping[str, str]
    summary: str

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: _size(content) for name, content in self.files.items()}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of it.

    Attributes:
        address: The page of the data set.
        changed: Whether anything was sent; False = it was there already.
        private: Whether others cannot see it.
        notes: What the Hub remarked.
    """

    address: str
    changed: bool
    private: bool
    notes: tuple[str, ...] = ()


def upload_of(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    license: str | None = None,  # noqa: A002  (the option's name)
) -> Upload:
    """Decide what of a finished selection goes up; nothing is sent.

    The training file, the metrics and reasons of all rows, the card, and the files for a trainer. The manifest stays,
    because it holds paths of this machine; so do pages, which hold texts that were not chosen, and files that
    crowdselect did not write.

    Args:
        folder: What `crowdselect.export` wrote.
        repo: OWNER/NAME of the data set.
        license: What the card is to state; None = what it states already.

    Raises:
        InputError: The folder holds no finished selection, or has no card.
        OptionError: `repo` is no name of a data set, or the card states no licence and none is given.

    Example:
        >>> upload_of("no-such-folder", "owner/name", license="mit")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-folder: not a crowdselect output folder (no manifest.json); pass a folder created by `crowdselect select`
    """
    selection, place = load_selection(folder), Path(folder)
    address = hub_address(repo)
    if address is None or "/" in (name := address.removeprefix(HUB)).partition("/")[2] or "@" in name:
        raise OptionError(f"`repo` is {repo!r}; wanted OWNER/NAME, such as my-name/{place.resolve().name}")
    own = own_files(place)
    left = {file: _why_left(file, place, own) for file in files_in(place)}
    names = [file for file, why in left.items() if why is None]
    if CARD not in names:
        raise InputError(f"{folder}: has no {CARD}, which would be the card; select again")
    card = (place / CARD).read_text(encoding="utf-8")
    if license is None and license_in(card) is None:
        raise OptionError(
            f"{place / CARD} names no licence; give one that the answers' sources allow with `license`, such as "
            "`license='cc-by-4.0'` (their names: https://huggingface.co/docs/hub/repositories-licenses)"
        )
    card = card if license is None else licensed(card, license)
    card = card.replace('load_dataset("FOLDER")', f'load_dataset("{name}")')
    files = {file: card.encode() if file == CARD else place / file for file in names}
    summary = f"{len(selection.chosen)} rows chosen with crowdselect {selection.facts['version']}"
    return Upload(name, files, {file: why for file, why in left.items() if why is not None}, summary)


def push(upload: Upload, *, public: bool = False, overwrite: bool = False) -> Pushed:
    """Send it to the Hub, in one commit: all of it is there afterwards, or nothing.

    After a broken upload the same call goes on: large files that have arrived are not sent again. Nothing of a data
    set is ever deleted.

    Args:
        upload: From `upload_of`.
        public: Make a new data set that everybody can see.
        overwrite: Where files of these names are there with other content, replace them.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        OptionError: There is no token.
        OutputError: The Hub refuses or cannot be reached; or the data set is there and holds other files, or is
            public and `public` is not set.

    Example:
        >>> push.__name__
        'push'
    """
    hub = optional("huggingface_hub", extra="hub")
    token = check_token()
    api, kind = hub.HfApi(token=token), {"repo_type": "dataset"}
    with _told(upload.repo, token), warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # what the Hub remarks, about the card above all
        try:
            info = api.repo_info(upload.repo, **kind)
        except hub.errors.RepositoryNotFoundError:
            private, there = not public, {}
            api.create_repo(upload.repo, private=private, **kind)
        else:
            private = bool(info.private)
            there = dict(_content_ids(api.list_repo_tree(upload.repo, recursive=True, **kind)))
            _check_there(upload, there, private=private, public=public, overwrite=overwrite)
        address = f"{api.endpoint}/datasets/{upload.repo}"
        changed = not all(_is_there(content, there.get(name)) for name, content in upload.files.items())
        if changed:
            adds = [
                hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in upload.files.items()
            ]
            api.create_commit(upload.repo, adds, commit_message=upload.summary, **kind)
    return Pushed(address, changed, private, tuple(" ".join(str(each.message).split()) for each in remarks))


def check_token() -> str:
    """Return the token for the Hub.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        OptionError: There is none.
    """
    token = optional("huggingface_hub", extra="hub").get_token()
    if not token:
        raise OptionError("there is no token for the Hub; log in with `hf auth login`, or set HF_TOKEN")
    return str(token)


def _why_left(file: str, place: Path, own: set[str]) -> str | None:
    """Say why a file stays here; None = it goes up."""
    if file == MANIFEST:
        return "it holds paths of this machine"
    if file not in own or any(part.startswith(".") for part in file.split("/")):
        return "crowdselect did not write it"
    if file.endswith((".html", ".htm")):
        return "it holds texts that were not chosen"
    return "it is a link" if (place / file).is_symlink() else None


def _check_there(
    upload: Upload, there: Mapping[str, tuple[str, bool]], *, private: bool, public: bool, overwrite: bool
) -> None:
    if not private and not public:
        raise OutputError(
            f"{upload.repo}: there is such a data set, and it is public; add `public=True`, or name another"
        )
    others = sorted(set(there) - set(upload.files) - _NOT_OURS)
    if others and not overwrite:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise OutputError(
            f"{upload.repo}: there is such a data set, and it holds other files ({shown}); name another, or add "
            "`overwrite=True` to put these files beside them"
        )
    for name, content in upload.files.items():
        if name in there and not _is_there(content, there[name]) and not overwrite:
            raise OutputError(
                f"{upload.repo}: its {name} has other content; name another data set, or add `overwrite=True` to "
                "replace the files of these names (its history keeps the old ones)"
            )


def _content_ids(tree: Any) -> Iterator[tuple[str, tuple[str, bool]]]:  # noqa: ANN401  (of huggingface_hub)
    """Give the id of each file's content in a data set, and whether it is that of a large file."""
    for entry in tree:
        if hasattr(entry, "blob_id"):  # a folder has none
            large = entry.lfs
            yield entry.path, (entry.blob_id, False) if large is None else (large.sha256, True)


def _is_there(content: Path | bytes, found: tuple[str, bool] | None) -> bool:
    """Compare a content with the id of what is there: SHA-256 of large files, Git's SHA-1 of others."""
    if found is None:
        return False
    identity, large = found
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % _size(content), usedforsecurity=False)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest() == identity


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


@contextmanager
def _told(repo: str, token: str) -> Iterator[None]:
    """Turn what fails into one line, which never holds the token."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as error:
        said = _failure(error).replace(token, "[the token]")
        raise OutputError(f"{repo}: the Hub did not take it: {said}") from None


def _failure(error: BaseException) -> str:
    """Say what failed: by the status of the answer, by the kind of error, or in the error's own words."""
    chain = [error] if error.__cause__ is None else [error.__cause__, error]
    for each in chain:
        status = getattr(getattr(each, "response", None), "status_code", None)
        if status in _REFUSALS:
            return _REFUSALS[status]
    kinds = [kind.__name__ for each in chain for kind in type(each).__mro__]
    said = [" ".join(re.sub(r"\(Request ID: .*?\)", "", str(each)).split()) for each in reversed(chain)]
    own = ": ".join(part for part in said if part)[:_LONGEST]
    return next((_FAILURES[kind] for kind in kinds if kind in _FAILURES), own or type(error).__name__)
