"""A server with the documented shapes of vLLM's pooling endpoints and of text-embeddings-inference, for the tests.

Sources: vLLM `vllm/entrypoints/pooling/{classify,pooling,scoring}/protocol.py` (requests with `input` or `messages`,
`use_activation` on unless said otherwise; answers `data: [{index, probs, num_classes}]`, `[{index, data}]`,
`[{index, score}]`), SGLang's `http_server.py` (`/classify`: `text`; a list of `{embedding, meta_info}`) and text-embeddings-inference `docs/openapi.json` (`/predict`: `inputs`, `raw_scores` off by
default, `truncate`; a list of `[{label, score}]` for a batch, errors as `{error, error_type}`; `/info`).
"""

import contextlib
import itertools
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

VLLM = ("/classify", "/pooling", "/score")


def raw_reward(answer: str) -> float:
    """What the pretended model thinks of an answer: of any sign, so that an activation shows."""
    return len(answer) / 10 - 3


class RewardServer:
    """Serves `paths`; `faults` maps the number of a request, from 0, to the status it gets instead of an answer.

    Quirks: `answer`, what is answered, or makes it of the body; `reply`, makes (status, bytes, headers) of the number
    and the request's headers, None = as usual; `drip`, a byte every so many seconds, begun with the request of this
    number; `drip_headers`, the same before the head of the answer ends.
    """

    def __init__(self, *paths: str, faults: dict[int, int] | None = None, **quirks: object) -> None:
        self.paths, self.faults, self.quirks = paths, faults or {}, quirks
        self.requests: list[tuple[str, dict]] = []
        self.keys: list[str | None] = []
        self.numbers = itertools.count()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def posted(self, path: str) -> list[dict]:
        return [body for at, body in self.requests if at == path]

    def requests_of(self, model: str) -> list[dict]:
        """The bodies sent to one model."""
        return [body for _, body in self.requests if body.get("model") == model]

    def answer(self, path: str, body: dict) -> tuple[int, object]:
        with self._lock:
            number = len(self.requests)
            self.requests.append((path, body))
        if number in self.faults:
            return self.faults[number], {"error": "busy", "error_type": "overloaded"}
        if path not in self.paths:
            return 404, {"detail": "Not Found"}
        if self.quirks.get("sglang"):
            return _sglang(path, body)
        if "answer" in self.quirks:
            made = self.quirks["answer"]
            return 200, made(body) if callable(made) else made
        return 200, _tei(body) if path == "/predict" else _vllm(path, body, self.quirks)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tei = "/predict" in server.paths and self.path == "/info"
                self._send(
                    200 if tei else 404, {"model_id": "o/m", "model_type": {"classifier": {}}} if tei else {}
                )

            def do_POST(self) -> None:
                server.keys.append(self.headers.get("Authorization"))
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = next(server.numbers)
                made = server.quirks["reply"](number, self.headers) if "reply" in server.quirks else None
                drips = number >= server.quirks.get("drip", math.inf)
                if made is not None or drips:
                    server.requests.append((self.path, body))
                if made is not None:
                    _put(self, *made)
                elif drips:
                    _drip(self, server)
                else:
                    self._send(*server.answer(self.path, body))

            def _send(self, status: int, found: object) -> None:
                _put(self, status, json.dumps(found).encode(), {})

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _put(to: BaseHTTPRequestHandler, status: int, data, headers: dict) -> None:
    to.send_response(status)
    if isinstance(data, bytes):
        headers = {"Content-Length": str(len(data)), **headers}
        data = [data]
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()
    with contextlib.suppress(OSError):
        for piece in data:
            to.wfile.write(piece)


def _drip(to: BaseHTTPRequestHandler, server: RewardServer) -> None:
    """Send a byte now and then until the other side goes away or the test ends."""
    with contextlib.suppress(OSError):
        to.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        if not server.quirks.get("drip_headers"):
            to.wfile.write(b"no\r\nContent-Length: 4000\r\n\r\n")
        while not server.ended.wait(0.1):
            to.wfile.write(b" ")


def _vllm(path: str, body: dict, quirks: dict) -> dict:
    if path == "/score":
        assert len(body["text_1"]) == len(body["text_2"])
        texts = body["text_2"]
    elif "messages" in body:
        assert body["add_generation_prompt"] is False
        assert body["messages"][-1]["role"] == "assistant"
        texts = [body["messages"][-1]["content"]]
    else:
        texts = ["x" * len(ids) for ids in body["input"]]
    raw = body.get("use_activation", True) is False and not quirks.get("always_active")
    values = [raw_reward(text) if raw else _sigmoid(raw_reward(text)) for text in texts]
    values = [[value] * quirks.get("outputs", 1) for value in values]
    if path == "/classify":
        data = [
            {"index": at, "label": None, "probs": value, "num_classes": len(value)}
            for at, value in enumerate(values)
        ]
    elif path == "/pooling":
        data = [{"index": at, "object": "pooling", "data": value} for at, value in enumerate(values)]
    else:
        data = [{"index": at, "object": "score", "score": value[0]} for at, value in enumerate(values)]
    return {
        "id": "x",
        "object": "list",
        "created": 0,
        "model": body.get("model", "m"),
        "data": data[::-1],
        "usage": {},
    }


def _sglang(path: str, body: dict) -> tuple[int, object]:
    if path == "/v1/classify":  # a softmax over the one label
        return 200, {"data": [{"index": 0, "label": "LABEL_0", "probs": [1.0], "num_classes": 1}]}
    if body.get("text") is None:
        return 400, {"error": {"message": "Either text, input_ids or input_embeds should be provided."}}
    texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
    return 200, [{"embedding": [raw_reward(text)], "meta_info": {"id": "x"}} for text in texts]


def _tei(body: dict) -> list:
    assert body["truncate"] is True
    answers = [one[-1] for one in body["inputs"]]
    raw = body.get("raw_scores", False)
    return [
        [{"label": "LABEL_0", "score": raw_reward(one) if raw else _sigmoid(raw_reward(one))}]
        for one in answers
    ]


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
