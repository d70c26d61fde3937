"""Seeds: every draw has a name, and its seed is a hash of the name."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

FORM = 2
"""Increased when model or training change their results, so that earlier cache entries are not used."""


def seed_of(*names: object) -> int:
    """Return the seed for these names, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:4], "big")


def content_key(facts: Mapping[str, Any], *blobs: bytes) -> str:
    """Return a cache name for these inputs: equal content gives equal names."""
    digest = hashlib.sha256(json.dumps({**facts, "form": FORM}, sort_keys=True).encode())
    for blob in blobs:
        digest.update(hashlib.sha256(blob).digest())
    return digest.hexdigest()[:24]


def cache_folder() -> Path:
    """The cache folder of crowds, bases and pools, which can all be recomputed; delete it to clear the cache."""
    folder = Path(platformdirs.user_cache_dir("crowdselect-proving-ground"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary file and rename it, so that the file is always complete."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    beside.write_bytes(content)
    beside.replace(path)
