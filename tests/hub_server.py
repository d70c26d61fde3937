"""A server that answers uploads as the Hub does: what huggingface_hub 2 sends to make a data set and commit files to it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar
from urllib.parse import urlsplit

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz12345678"
OWNER = "me"
LARGE = (".parquet",)
"""Endings of what the Hub keeps as large files."""
LICENCES = ("mit", "apache-2.0", "cc-by-4.0")


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """What is kept, and what was asked."""

    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    failing: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """Method and a pattern of the path → the status and the body of the answer."""

    def sent(self, pattern: str) -> int:
        return sum(re.search(pattern, path) is not None for _, path in self.asked)

    def uploads(self) -> list[str]:
        return [path for method, path in self.asked if method == "PUT"]


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self, method: str) -> None:
        length = self.headers["Content-Length"]
        body = self.rfile.read(int(length)) if length else self._chunks()
        path = urlsplit(self.path).path
        self.hub.asked.append((method, path))
        for (wanted, pattern), (status, said) in self.hub.failing.items():
            if method == wanted and re.search(pattern, path):
                self._say(status, {"error": said})
                return
        if not path.startswith("/blobs/") and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._say(401, {"error": "Invalid credentials in Authorization header"}, message=True)
            return
        self._answer(method, path, body)

    def _chunks(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, method: str, path: str, body: bytes) -> None:
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.startswith("/blobs/"):
            oid = path.rpartition("/")[2]
            assert hashlib.sha256(body).hexdigest() == oid
            self.hub.blobs[oid] = body
            self._say(200, {})
        elif found := re.fullmatch(r"/datasets/(.+)\.git/info/lfs/objects/batch", path):
            assert found[1] in self.hub.repos
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(\w+)/main)?", path):
            self._repo(found[1], found[2] or "info", body)
        else:
            self._say(404, {"error": f"the test's server knows no {method} {path}"})

    def _validate(self, card: str) -> None:
        stated = re.search(r"^license: \"?([^\"\n]*)", card, re.MULTILINE)
        if stated is None or stated[1] not in LICENCES:
            self._say(400, {"errors": [{"message": '"license" must be one of [...]'}], "warnings": []})
            return
        self._say(200, {"errors": [], "warnings": []})

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        assert asked["type"] == "dataset"
        if asked["organization"] != OWNER:
            self._say(403, {"error": f"You don't have the rights to create a dataset under {name}"})
        elif name in self.hub.repos:
            self._say(409, {"error": "You already created this dataset repo"})
        else:
            self.hub.repos[name] = Repo(asked["visibility"] == "private", {".gitattributes": b"*.parquet\n"})
            self._say(200, {"url": f"http://{self.headers['Host']}/datasets/{name}"})

    def _repo(self, name: str, what: str, body: bytes) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._say(404, {"error": "Repository not found"}, code="RepoNotFound")
        elif what == "info":
            self._say(200, {"_id": "1", "id": name, "sha": "0" * 40, "private": repo.private, "tags": []})
        elif what == "tree":
            self._say(200, [self._entry(path, content) for path, content in repo.files.items()])
        elif what == "preupload":
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self._say(200, {"files": files})
        else:
            assert what == "commit"
            self._commit(name, repo, [json.loads(line) for line in body.splitlines()])

    def _entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
        if path.endswith(LARGE):
            oid = hashlib.sha256(content).hexdigest()
            entry |= {"oid": "1" * 40, "lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}
        return entry

    def _batch(self, asked: dict) -> None:
        objects = []
        for one in asked["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.blobs:
                place = f"http://{self.headers['Host']}/blobs/{one['oid']}"
                answer["actions"] = {"upload": {"href": place}}
            objects.append(answer)
        self._say(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repo: Repo, lines: list[dict]) -> None:
        files = dict(repo.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                assert line["key"] == "header", line
                repo.commits.append(value["summary"])
        repo.files = files
        url = f"http://{self.headers['Host']}/datasets/{name}/commit/{'2' * 40}"
        self._say(200, {"commitUrl": url, "commitOid": "2" * 40})

    def _say(self, status: int, answer: object, *, code: str = "", message: bool = False) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", answer["error"])
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[tuple[str, Hub]]:
    """Give the address of a Hub, and what it keeps."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
