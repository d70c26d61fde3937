"""A data set of the Hub by another name than ours: what to type instead."""

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

HUB = "hf://datasets/"
"""How the address of a data set of the Hub begins."""
_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
_NAME = r"[A-Za-z0-9][\w.-]*"
_REPOSITORY = re.compile(rf"(?:datasets/)?({_NAME}/{_NAME})")
_PAGE = re.compile(rf"/datasets/({_NAME}/{_NAME})(?:/(?:tree|blob|resolve)/([^/]+)(?:/(.+))?)?(?:/.*)?")


def hub_address(path: str) -> str | None:
    """Turn what may be meant as a data set of the Hub into its address.

    Args:
        path: A bare OWNER/NAME, or the address of a page of a data set or of a file in it.

    Returns:
        `hf://datasets/OWNER/NAME[@REVISION][/PATH]`; None where nothing of that kind is written.

    Example:
        >>> hub_address("allenai/tulu-3"), hub_address("data/pool.parquet")
        ('hf://datasets/allenai/tulu-3', None)
        >>> hub_address("https://huggingface.co/datasets/allenai/tulu-3/blob/v1/data/train.parquet")
        'hf://datasets/allenai/tulu-3@v1/data/train.parquet'
    """
    text = path.strip().removeprefix("hf://").rstrip("/")
    bare = _REPOSITORY.fullmatch(text)
    is_file = PurePosixPath(text).suffix[1:2].isalpha()  # unlike the end of tulu-3.1
    if bare and not is_file and text.split("/")[0] not in _HOSTS:
        return HUB + bare[1]
    try:
        address = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:  # brackets that hold no address: a file's name, or nothing
        return None
    page = _PAGE.fullmatch(address.path) if address.hostname in _HOSTS else None
    if page is None:
        return None
    repository, revision, inside = page.groups()
    named = "" if revision in (None, "main") else f"@{unquote(revision)}"
    return HUB + repository + named + (f"/{unquote(inside)}" if inside else "")
