"""What the tests of `crowdselect evaluate` share: a server whose models and judge follow known rules, and input files."""

import hashlib
import json
import re
from pathlib import Path

from reward_server import RewardServer

CHAT = "/v1/chat/completions"
CATEGORIES = ("writing", "math", "stem", "coding")


def graded(text: str) -> int:
    """The judge's rule: a grade from 1 to 10 by the length of the answer."""
    return 1 + len(text) % 10


def compared(first: str, second: str) -> str:
    """The judge's rule for pairs: the longer answer is better, by far if by 40 characters; 2 are no difference."""
    more = len(first) - len(second)
    if abs(more) <= 2:
        return "A=B"
    return ("A>>B" if more >= 40 else "A>B") if more > 0 else ("B>>A" if more <= -40 else "B>A")


def answered(model: str, messages: list) -> str:
    """The models' rule: a text whose length depends on all that was said."""
    digest = hashlib.sha256(json.dumps([model, messages]).encode()).hexdigest()
    return f"{model}: {digest * 2}"[: 12 + int(digest[:4], 16) % 80]


def between(text: str, mark: str) -> str:
    """What stands between our prompts' marks."""
    return re.search(rf"<{mark}-([0-9a-f]+)>\n(.*?)\n</{mark}-\1>", text, re.DOTALL)[2]


def judged(prompt: str) -> str:
    """What the judge says."""
    if "[[A>>B]]" in prompt:
        return f"Reasons. [[{compared(between(prompt, 'answer-A'), between(prompt, 'answer-B'))}]]"
    return f"Reasons. Rating: [[{graded(between(prompt, 'answer'))}]]"


def chat(text: str, tokens: int = 7) -> dict:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 50, "completion_tokens": tokens},
    }


def serve(say=None) -> RewardServer:
    """A server for models and a judge; `say(body)` may answer first, None leaves it to the rules."""

    def answer(body: dict) -> dict:
        said = None if say is None else say(body)
        if said is None:
            last = body["messages"][-1]["content"]
            said = judged(last) if body["model"] == "judge" else answered(body["model"], body["messages"])
        return chat(said)

    return RewardServer(CHAT, answer=answer)


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


class Bench:
    """A folder with questions of both benchmarks, references, a crowd file."""

    def __init__(self, folder: Path, url: str, *, questions: int = 8, **judge: object) -> None:
        self.folder = folder
        kinds = [CATEGORIES[number % len(CATEGORIES)] for number in range(questions)]
        self.mt = write_jsonl(
            folder / "mt.jsonl",
            [
                {"question_id": 81 + n, "category": kind, "turns": [f"First {n}?", f"Second {n}?"]}
                for n, kind in enumerate(kinds)
            ],
        )
        self.references = write_jsonl(
            folder / "references.jsonl",
            [
                {
                    "question_id": 81 + n,
                    "model_id": "r",
                    "choices": [{"index": 0, "turns": [f"R1 {n}", f"R2 {n}"]}],
                }
                for n, kind in enumerate(kinds)
                if kind in {"math", "coding"}
            ],
        )
        self.hard = write_jsonl(
            folder / "hard.jsonl",
            [
                {"uid": f"u{n}", "category": "arena-hard-v0.1", "prompt": f"Hard {n}?"}
                for n in range(questions)
            ],
        )
        self.crowd = folder / "crowd.toml"
        extra = "".join(f"{name} = {json.dumps(value)}\n" for name, value in judge.items())
        models = "".join(f'[[model]]\nname = "{name}"\n' for name in ("student", "other"))
        self.crowd.write_text(
            f'[defaults]\nbase_url = "{url}/v1"\nmax_concurrency = 4\n{models}[[judge]]\nname = "judge"\n{extra}'
        )

    def mt_bench(self, model: str = "student", out: str = "out", *, judge: str = "judge") -> list[object]:
        """The arguments of a whole evaluation."""
        return [
            *("evaluate", "mt-bench", "--model", f"{self.crowd}#{model}", "--judge", f"{self.crowd}#{judge}"),
            *("--questions", self.mt, "--references", self.references, "-o", self.folder / out),
        ]

    def arena_hard(self, model: str = "student", out: str = "out") -> list[object]:
        """Likewise, against `other`."""
        return [
            *("evaluate", "arena-hard", "--model", f"{self.crowd}#{model}", "--judge", f"{self.crowd}#judge"),
            *("--questions", self.hard, "--baseline", f"{self.crowd}#other", "-o", self.folder / out),
        ]
