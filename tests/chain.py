"""What the test of the whole chain needs: teachers behind `transformers serve`, a judge with a known rule, a recipe."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

from collecting import wait_for

TEACHERS = {"tiny-1b": 1, "tiny-7b": 7}
QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write about the sea.", "Now shorter."]},
    {"question_id": 2, "category": "math", "turns": ["How much is 2 + 3?", "And twice that?"]},
    {"question_id": 3, "category": "stem", "turns": ["Why is the sky blue?", "And at night?"]},
]
REFERENCES = [{"question_id": 2, "model_id": "ref", "choices": [{"index": 0, "turns": ["5", "10"]}]}]
PROMPTS = [{"uid": f"p{n}", "category": "arena", "cluster": "x", "prompt": f"Say {n}."} for n in range(3)]
RULE = '''
def letters(conversations):
    """How many letters the answer has."""
    return [sum(c.isalpha() for c in one[-1]["content"]) for one in conversations]
'''
RECIPE = """
[collect]
instructions = "asked.jsonl"
crowd = "crowd.toml"

[reward]
with = ["python:rule:letters"]

[[select]]
budget = 5
clusters = 2
allow-cut = true

[[select]]
method = "random"
budget = 5
seed = [0, 1]
allow-cut = true

[compare]
draws = 5

[train]
base = "student"
lora = true
epochs = 2
learning-rate = 0.01
eval-share = 0.2
device = "cpu"
max-length = 128

[evaluate.mt-bench]
questions = "mt.jsonl"
references = "references.jsonl"
judge = "crowd.toml#rule"
max-tokens = 12

[evaluate.arena-hard]
questions = "arena.jsonl"
baseline = "crowd.toml#tiny-1b"
judge = "crowd.toml#rule"
max-tokens = 12
"""


def grade(answer: str) -> int:
    """The judge's rule for one answer: one point, and one more for every eight characters."""
    return min(10, 1 + len(answer) // 8)


def verdict(first: str, second: str) -> str:
    """The judge's rule for two answers: the longer one is better."""
    return "A=B" if len(first) == len(second) else "A>B" if len(first) > len(second) else "B>A"


class Judge:
    """An OpenAI-compatible server with a rule in place of a model; in a `with`."""

    def __init__(self) -> None:
        self.calls = 0
        handler = type("Handler", (_Handler,), {"judge": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, prompt: str) -> str:
        self.calls += 1
        answers = {
            name: text.strip("\n")
            for name, text in re.findall(r"<(answer(?:-[AB])?)-[^>\s]+>(.*?)</\1-", prompt, re.DOTALL)
        }
        if "answer" in answers:
            return f"Rating: [[{grade(answers['answer'])}]]"
        return f"[[{verdict(answers['answer-A'], answers['answer-B'])}]]"


class _Handler(BaseHTTPRequestHandler):
    judge: Judge
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": self.judge.reply(body["messages"][-1]["content"])}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55},
        }
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def write_chain(folder: Path, *, served: str, judge: str) -> Path:
    """Write everything that the recipe names; returns the recipe."""
    from tiny_models import build_model

    teachers = {name: build_model(folder / name, seed=seed) for seed, name in enumerate(TEACHERS)}
    build_model(folder / "student", seed=7)
    lines = ["[defaults]", "max_tokens = 16", "temperature = 0.0", ""]
    for name, path in teachers.items():
        lines += ["[[model]]", f'name = "{name}"', 'family = "tiny"', f"size_b = {TEACHERS[name]}"]
        lines += [
            f"model = {json.dumps(str(path))}",
            f'base_url = "{served}"',
            "price_in = 1.0",
            "price_out = 2.0",
            "",
        ]
    lines += ["[[judge]]", 'name = "rule"', f'base_url = "{judge}"', "price_in = 1.0", "price_out = 1.0"]
    (folder / "crowd.toml").write_text("\n".join(lines) + "\n")
    asked = [{"id": f"q{n:02d}", "instruction": f"Say something about the number {n}."} for n in range(12)]
    for name, rows in (
        ("asked.jsonl", asked),
        ("mt.jsonl", QUESTIONS),
        ("references.jsonl", REFERENCES),
        ("arena.jsonl", PROMPTS),
    ):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rule.py").write_text(RULE)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def start(recipe: Path, *options: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `crowdselect run` in a process group of its own, which can be killed as a whole."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "crowdselect", "run", str(recipe), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


@contextmanager
def serving() -> Iterator[str]:
    """Give the base_url of `transformers serve`, which loads a model when it is first asked for by its path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    with subprocess.Popen(
        [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            wait_for(lambda: _answers(port) or process.poll() is not None, 120)
            assert process.poll() is None, f"transformers serve ended with {process.returncode}"
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
        return True
    time.sleep(0.1)
    return False
