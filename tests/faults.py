"""What the fault server can do to a request, and what it answers when nothing is wrong."""

import base64
import dataclasses
import email.utils
import gzip
import hashlib
import json
import re
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fault_server import Connection

_STEP = re.compile(r"([A-Za-z0-9-]+)(?:=([0-9.]+))?(?::([0-9]+))?")
_WORDS = [
    *("oak", "river", "naïve", "seven", "日本語", "lamp", "zebra", "🦓", "slow", "green", "copper", "{}"),
    *('"quoted"', "back\\slash", "tab\there", "line\nbreak", "number", "42", "and", "or", "the", "of", "in"),
    *("with", "quiet", "amber", "stone", "window", "paper", "cloud", "salt", "harbour", "winter", "'", "<b>"),
]
CHAOS = ("429-after=0.05", "500", "502", "503", "reset", "truncated", "html-500", "shape")
_REASONS = {200: "OK", 204: "No Content", 307: "Temporary Redirect", 429: "Too Many Requests"}
HUGE = 20 * 1024 * 1024
LIMIT = 64 * 1024  # bytes of an error that are read


class Step(NamedTuple):
    kind: str
    arg: float | None
    times: int | None  # None: for ever


@dataclass(slots=True)
class Call:
    """One request as it came, and what was done with it."""

    path: str
    model: str
    body: dict
    headers: dict
    key: str  # of (model, messages, seed): equal for the retries of one request
    attempt: int  # 0 for the first request with this key
    kind: str
    at: float
    arg: float | None = None
    ended: str = ""  # A or L once it is over
    ended_at: float = 0.0
    prompt: str = field(default="")

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


def parse(spec: str) -> list[Step]:
    """`429:2+reset=0.5` to its steps."""
    steps = []
    for part in spec.split("+"):
        found = _STEP.fullmatch(part)
        if found is None or not (found[1].isdigit() or found[1] in FAULTS):
            raise ValueError(f"{part!r} is no fault; there are: numbers, {', '.join(FAULTS)}")
        steps.append(
            Step(found[1], float(found[2]) if found[2] else None, int(found[3]) if found[3] else None)
        )
    return steps


def pick(steps: list[Step], attempt: int) -> Step:
    """The step for the attempt-th request, counted from 0; the answer when all are used up."""
    for step in steps:
        if step.times is None or attempt < step.times:
            return step
        attempt -= step.times
    return Step("ok", None, None)


def key_of(model: str, messages: list, seed: int | None = None) -> str:
    return hashlib.sha256(json.dumps([model, messages, seed], sort_keys=True).encode()).hexdigest()[:16]


def answer(model: str, messages: list, seed: int | None = None) -> str:
    """What the server answers: a handful of words that depend on all three."""
    digest = hashlib.sha256(f"answer {key_of(model, messages, seed)}".encode()).digest()
    words = [_WORDS[byte % len(_WORDS)] for byte in digest[: 6 + digest[31] % 20]]
    return " ".join([model, "says", digest[:4].hex(), *words])


def completion(
    call: Call, text: str | None = None, *, finish: str | None = "stop", **message: object
) -> dict:
    """A whole answer, with numbers of tokens; `max_tokens` cuts it off as a real server would."""
    body = call.body
    if text is None:
        text = answer(call.model, body.get("messages"), body.get("seed"))
    words = text.split(" ")
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit and len(words) > limit:
        text, finish, words = " ".join(words[:limit]), "length", words[:limit]
    prompt_tokens = sum(len(str(turn.get("content")).split()) + 3 for turn in body.get("messages", []))
    return {
        "id": f"chatcmpl-{call.key}-{call.attempt}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": call.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text} | message,
                "finish_reason": finish,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(words),
            "total_tokens": prompt_tokens + len(words),
        },
    }


def error_body(message: str, *, code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "fault", "param": None, "code": code}}).encode()


def http(status: int, body: bytes, *, kind: str = "application/json", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Fault')}", f"Content-Type: {kind}"]
    headers = {"Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def dumped(answer_body: object) -> bytes:
    return json.dumps(answer_body, ensure_ascii=False).encode("utf-8", "surrogatepass")


# ── faults: each gets the connection and the call, and must do something with them ──────────────────────


def _ok(to: "Connection", call: Call) -> None:
    to.send(http(200, dumped(completion(call))))


def status(to: "Connection", call: Call) -> None:
    to.send(http(int(call.kind), error_body(f"fault {call.kind} asked for")))


def _with_body(make):
    """A fault that is a JSON body under 200."""
    return lambda to, call: to.send(http(200, dumped(make(call))))


def _with_bytes(make, *, status: int = 200, kind: str = "application/json"):
    return lambda to, call: to.send(http(status, make(call), kind=kind))


def _retry_after(to: "Connection", call: Call) -> None:
    wait = call.arg if call.arg is not None else 1.0
    to.send(http(429, error_body("slow down"), Retry_After=f"{wait:g}"))


def _retry_date(to: "Connection", call: Call) -> None:
    # HTTP dates have whole seconds: rounded up, so that the wait is never shorter than asked for.
    then = -(-(time.time() + (call.arg if call.arg is not None else 1.0)) // 1)
    to.send(http(429, error_body("slow down"), Retry_After=email.utils.formatdate(then, usegmt=True)))


def _busy_after(to: "Connection", call: Call) -> None:
    to.send(http(503, error_body("busy"), Retry_After=f"{call.arg if call.arg is not None else 1.0:g}"))


def _half(call: Call) -> bytes:
    whole = http(200, dumped(completion(call)))
    return whole[: whole.index(b"\r\n\r\n") + 40]


def _reset(to: "Connection", call: Call) -> None:
    to.transport.write(_half(call))
    to.later(0.02, to.reset)  # the half is on its way before the RST, which would overtake it


def _close(to: "Connection", call: Call) -> None:
    to.transport.write(_half(call))
    to.transport.close()


def _late(to: "Connection", call: Call) -> None:
    to.later(call.arg if call.arg is not None else 5.0, lambda: _ok(to, call))


def _stall(to: "Connection", call: Call) -> None:
    to.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n")


def _silent(to: "Connection", call: Call) -> None:
    """Not a byte, the connection stays open."""


def _drip(to: "Connection", call: Call) -> None:
    """A byte now and then, so that a limit on the silence between two reads never fires."""
    _stall(to, call)

    def drop() -> None:
        to.transport.write(b" ")
        to.later(0.1, drop)

    drop()


def _garbage(to: "Connection", call: Call) -> None:
    to.transport.write(b"\x00\x01 this is not HTTP\r\n\r\n" * 20)
    to.transport.close()


def _redirect(to: "Connection", call: Call) -> None:
    """To the same server under its other name, which is another origin."""
    to.send(http(307, b"", Location=f"http://localhost:{to.server.port}/elsewhere/v1/chat/completions"))


def _gzip(to: "Connection", call: Call) -> None:
    body = gzip.compress(dumped(completion(call)))
    to.send(http(200, body, Content_Encoding="gzip"))


def _gzip_broken(to: "Connection", call: Call) -> None:
    to.send(http(200, dumped(completion(call)), Content_Encoding="gzip"))


def _gzip_bomb(to: "Connection", call: Call) -> None:
    """100 MB in 100 kB."""
    body = gzip.compress(dumped(completion(call, content="a" * (5 * HUGE))), compresslevel=1)
    to.send(http(200, body, Content_Encoding="gzip"))


def bomb(size: int = 800) -> bytes:
    """Packed bytes, about 1 kB for each MB of `size` that they unpack to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated as it is
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * size


def _flood(to: "Connection", _call: Call) -> None:
    """700 MB of an error, as fast as the other side takes them."""
    to.transport.write(
        b"HTTP/1.1 500 Fault\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (700 << 20)
    )

    def pour() -> None:
        if to.transport.get_write_buffer_size() < 1 << 20:
            to.transport.write(b"x" * (1 << 20))
        to.later(0.001, pour)

    pour()


def _retry_odd(to: "Connection", call: Call) -> None:
    """Waits that are none."""
    odd = ("soon", "-5", "nan", "inf", "", "Thu, 99 Nov 9999 99:99:99 GMT")
    to.send(http(429, error_body("slow down"), Retry_After=odd[call.attempt % len(odd)]))


def _close_after(to: "Connection", call: Call) -> None:
    """A good answer, then the connection ends without a word: the next request on it fails."""
    _ok(to, call)
    to.later(0.005, to.transport.close)


def _echo(call: Call) -> str:
    """=N puts so many characters before the key: a message that is cut off may be cut in the key."""
    before = "." * int(call.arg or 0)
    return (
        f"{before}Incorrect API key provided: {call.token}. Header was 'Authorization: Bearer {call.token}'."
    )


def _escaped(call: Call) -> bytes:
    """The key in JSON that no parser has read, each character as an escape."""
    key = "".join(f"\\u{ord(one):04x}" for one in call.token)
    return b'{"error": {"message": "%s%s"}, broken' % (b"." * int(call.arg or 0), key.encode())


def _basic(call: Call) -> str:
    """The key as basic authentication carries it."""
    written = base64.b64encode(f"user:{call.token}".encode()).decode()
    return f"{'.' * int(call.arg or 0)}Authorization: Basic {written}"


def _choice(call: Call, **changes: object) -> dict:
    whole = completion(call)
    whole["choices"][0] |= changes
    return whole


def _spoilt(call: Call) -> bytes:
    return dumped(completion(call)).replace(b"says", b"sa\xff\xfeys\xc3")


def _page(call: Call) -> bytes:
    return b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1><p>nginx \x1b[31m</p></body></html>"


FAULTS = {
    "ok": _ok,
    "429-after": _retry_after,  # =SECONDS
    "429-date": _retry_date,  # =SECONDS
    "429-odd": _retry_odd,
    "503-after": _busy_after,  # =SECONDS
    "reset": _reset,
    "reset-early": lambda to, _: to.reset(),
    "close": _close,
    "close-after": _close_after,
    "garbage": _garbage,
    "redirect": _redirect,
    "truncated": _with_bytes(lambda call: dumped(completion(call))[:-30]),
    "no-body": _with_bytes(lambda _: b""),
    "shape": _with_body(lambda _: {"ok": True, "detail": "no choices here"}),
    "shape-list": _with_body(lambda _: [1, 2, 3]),
    "shape-null": _with_body(lambda _: None),
    "shape-text": _with_body(lambda _: "just text"),
    "shape-message": _with_body(lambda call: _choice(call, message="not an object")),
    "shape-content": _with_body(lambda call: completion(call, content={"deep": [1]})),
    "shape-number": _with_body(lambda call: completion(call, content=17)),
    "error-200": _with_bytes(lambda _: error_body("the model is on fire")),
    "html": _with_bytes(_page, kind="text/html"),
    "html-500": _with_bytes(_page, status=500, kind="text/html"),
    "late": _late,  # =SECONDS
    "stall": _stall,
    "silent": _silent,
    "drip": _drip,
    "empty-choices": _with_body(lambda call: completion(call) | {"choices": []}),
    "null-content": _with_body(lambda call: completion(call, content=None)),
    "empty": _with_body(lambda call: completion(call, "")),
    "blank": _with_body(lambda call: completion(call, " \n\t ")),
    "huge": _with_body(lambda call: completion(call, content="all work " * (HUGE // 9))),
    "utf8": _with_bytes(_spoilt),
    "surrogate": _with_bytes(lambda call: json.dumps(completion(call, content="half \ud83d pair")).encode()),
    "nul": _with_body(lambda call: completion(call, content="before\0after \x1b[31mred")),
    "gzip": _gzip,
    "gzip-broken": _gzip_broken,
    "gzip-bomb": _gzip_bomb,
    "bomb": lambda to, _: to.send(http(200, bomb(), Content_Encoding="gzip")),
    "bomb-500": lambda to, _: to.send(http(500, bomb(), Content_Encoding="gzip")),
    "flood-500": _flood,
    "filter": _with_body(lambda call: completion(call, "", finish="content_filter")),
    "filter-400": _with_bytes(lambda _: error_body("filtered", code="content_filter"), status=400),
    "length": _with_body(lambda call: completion(call, finish="length")),
    "no-finish": _with_body(lambda call: completion(call, finish=None)),
    "tool": _with_body(lambda call: completion(call, finish="tool_calls", content=None)),
    "reasoning": _with_body(lambda call: completion(call, reasoning_content="thinking about it")),
    "reasoning-alone": _with_body(
        lambda call: completion(call, content="", reasoning_content="only thoughts")
    ),
    "reasoning-new": _with_body(lambda call: completion(call, reasoning="thinking in the newer field")),
    "no-usage": _with_body(lambda call: completion(call) | {"usage": None}),
    "bad-usage": _with_body(
        lambda call: completion(call) | {"usage": {"prompt_tokens": "many", "completion_tokens": -5}}
    ),
    "echo-400": _with_bytes(lambda call: error_body(_echo(call)), status=400),
    "echo-401": _with_bytes(lambda call: error_body(_echo(call), code="invalid_api_key"), status=401),
    "echo-500": _with_bytes(lambda call: f"<pre>{_echo(call)}</pre>".encode(), status=500, kind="text/html"),
    "echo-ok": _with_body(lambda call: completion(call, _echo(call))),
    "echo-escaped": _with_bytes(_escaped, status=400),
    "echo-escaped-ok": _with_bytes(_escaped),
    "echo-basic": _with_bytes(lambda call: error_body(_basic(call)), status=400),
    "echo-part": _with_bytes(
        lambda call: error_body(f"bad key {call.token[: int(call.arg or 0)]}"), status=400
    ),
    "echo-end": _with_bytes(
        lambda call: (
            (" " * (LIMIT - int(call.arg or 0)) + _echo(dataclasses.replace(call, arg=0))).encode()
            + b" " * LIMIT
        ),
        status=400,
    ),
    "echo-shape": _with_body(lambda call: {"choices": _echo(call)}),
}
