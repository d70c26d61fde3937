"""The chat server of CROWDSELECT_CASES, at a port of its own."""

import json
from pathlib import Path
from typing import Any, NamedTuple

PORT = "18321"
"""Where the server of the cases listens."""


class Server(NamedTuple):
    """The chat server of the cases, at a port of its own."""

    log: Path
    port: int

    def crowd(self, case: Path, folder: Path) -> Path:
        """The crowd file of a case, for this server."""
        file = folder / "crowd.toml"
        file.write_text((case / "crowd.toml").read_text().replace(PORT, str(self.port)))
        return file

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far."""
        found, decoder = [], json.JSONDecoder()
        for line in self.log.read_text().splitlines():
            rest = line
            while rest.startswith("["):  # two threads may write into one line
                value, end = decoder.raw_decode(rest)
                found.append(value[1])
                rest = rest[end:]
        return found

    def table(self, role: str, name: str, quirk: str, **settings: object) -> str:
        """A table of a crowd file, for one path of this server."""
        values = {"name": name, "base_url": f"http://127.0.0.1:{self.port}/{quirk}/v1", **settings}
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        return "\n".join([f"[[{role}]]", *lines, ""])


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
