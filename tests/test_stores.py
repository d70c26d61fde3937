"""Pools in an object store: a server of this machine that speaks as much of S3 as reading needs."""

import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from crowdselect import open_pool
from crowdselect.errors import InputError
from crowdselect.pool.files import resolve
from crowdselect.simulate.pool import simulate

SECRET = "of-nobody-9c1"  # and of no store


class Store(BaseHTTPRequestHandler):
    objects: dict[str, bytes]
    reads: list[str]

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        parts = urlsplit(self.path)
        if "list-type" in parse_qs(parts.query):
            self._list(parse_qs(parts.query).get("prefix", [""])[0])
        else:
            self.reads.append(unquote(parts.path))
            self._answer(body=True)

    def _answer(self, *, body):
        data = self.objects.get(unquote(urlsplit(self.path).path).removeprefix("/bucket/"))
        if data is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        begin, end = 0, len(data)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last or len(data) - 1) + 1, len(data))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Last-Modified", formatdate(1_700_000_000, usegmt=True))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(data[begin:end])

    def _list(self, prefix):
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
            "<LastModified>2023-11-14T22:13:20.000Z</LastModified><ETag>x</ETag></Contents>"
            for name, data in sorted(self.objects.items())
            if name.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def store(tmp_path, monkeypatch):
    made = simulate(tmp_path / "pool", instructions=30, shards=2, answer_chars=80)
    kind = type("Ours", (Store,), {"objects": {}, "reads": []})
    kind.objects = {f"data/pool/{file.name}": file.read_bytes() for file in made.files}
    kind.objects["data/pool/notes.txt"] = b"no data"
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    kind.where = f"?region=here&scheme=http&endpoint_override=127.0.0.1%3A{server.server_port}"
    yield kind
    server.shutdown()
    server.server_close()


def test_a_folder_of_a_store_is_a_pool_and_is_fetched_once(store, tmp_path):
    address = f"s3://bucket/data/pool{store.where}"
    with open_pool(address) as there, open_pool(tmp_path / "pool") as here:
        assert there.ids.tolist() == here.ids.tolist()
        assert there.fingerprint() == here.fingerprint()
        assert there.path == address
    first = len(store.reads)
    assert first >= 2
    with open_pool(address) as there:
        assert len(there.ids) == 30
    assert len(store.reads) == first
    name = next(iter(store.objects))
    del store.objects[name]
    assert len(resolve(address)[0]) == 1


def test_a_file_of_a_store(store):
    name = next(iter(store.objects))
    assert resolve(f"s3://bucket/{name}{store.where}")[0][0].name == "part-00000.parquet"


@pytest.mark.parametrize("path", ["nothing/here", "data/pool/notes.txt"])
def test_what_is_not_there_is_said(path, store):
    with pytest.raises(InputError, match=rf"^s3://bucket/{path}: "):
        resolve(f"s3://bucket/{path}{store.where}")


@pytest.mark.parametrize(
    "address", [f"s3://me:{SECRET}@bucket/pool", f"s3://bucket/pool?secret_key={SECRET}"]
)
def test_an_address_with_a_key_is_refused_and_not_shown(address):
    with pytest.raises(InputError, match="through the environment") as told:
        resolve(address)
    assert SECRET not in str(told.value)
