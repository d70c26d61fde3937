"""Where chance comes from: every draw has a name, and its seed is a hash of it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

FORM = 2
"""Goes up when model or training change what they compute: what was kept before is then not found."""


def seed_of(*names: object) -> int:
    """A seed for what these names say, the same everywhere."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:4], "big")


def content_key(facts: Mapping[str, Any], *blobs: bytes) -> str:
    """Name of what comes of these facts and data: the same content, the same name."""
    digest = hashlib.sha256(json.dumps({**facts, "form": FORM}, sort_keys=True).encode())
    for blob in blobs:
        digest.update(hashlib.sha256(blob).digest())
    return digest.hexdigest()[:24]


def cache_folder() -> Path:
    """Crowds, bases and pools, all of which can be made again; to empty it, delete it."""
    folder = Path(platformdirs.user_cache_dir("crowdselect-proving-ground"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write beside and rename, so that what lies under the name is whole."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    beside.write_bytes(content)
    beside.replace(path)
