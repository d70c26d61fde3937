"""A chat model as judge, asked through the clients, the ledger and the limits of `collect`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from crowdselect.ask.ask import AskOptions, Opener, Wanted, answers_to, ask, open_client
from crowdselect.ask.budget import Limits, check_cost_cap
from crowdselect.ask.calls import ANSWERED, Client, Request, make_request
from crowdselect.ask.endpoints import Endpoint, check_reachable, key, load_endpoints
from crowdselect.ask.http_client import HttpClient
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.errors import CallError, OptionError
from crowdselect.finish import no_verdict
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored
from crowdselect.reward.rubric import Rubric, read_score, unpack_judgement, with_expectation
from crowdselect.reward.specs import Spec

_RUNS = 8  # items per place in flight that are asked in one go
_READING = (
    2  # how replies are read: scores that were read in another way are read anew from the stored replies
)
_NO_REFERENCE = "the prompt asks for a reference answer, and there is none"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """How a judge is asked.

    Attributes:
        samples: How often each answer is judged; the scores are averaged.
        prompt: The user's own prompt, a file; None = the built-in rubric.
        logprobs: Ask for the score tokens' log-probabilities, and use them where they come.
        max_cost: Money, over all runs on the ledger. `max_requests` likewise.
    """

    samples: int = 1
    prompt: str | None = None
    logprobs: bool = True
    max_cost: float | None = None
    max_requests: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise OptionError(f"`samples` {self.samples} is below 1")


class JudgeScorer(BaseScorer):
    """`judge:FILE#NAME`: the judge's score from 0 to 10, averaged over samples.

    Args:
        spec: What was asked for.
        options: How.
        ledger: Gives the ledger; asked for when the first answer is judged.
        retry_failed: Ask again what has failed before.
        client: Makes the client; None = over HTTP or local, as the file says.
    """

    def __init__(
        self,
        spec: Spec,
        options: JudgeOptions,
        *,
        ledger: Callable[[], Ledger],
        retry_failed: bool = False,
        client: Opener | None = None,
    ) -> None:
        self._options, self._ledger = options, ledger
        self._limits = Limits(
            max_cost=options.max_cost, max_requests=options.max_requests, retry_failed=retry_failed
        )
        self._asking = AskOptions(limits=self._limits, opener=client or _client)
        self._rubric = Rubric(options.prompt)
        self.file = spec.target
        """The crowd file that names the judge."""
        self.endpoint = _endpoint(spec, options)
        check_cost_cap((self.endpoint,), options.max_cost)
        settings = {
            "kind": "judge",
            "endpoint": json.loads(self.endpoint.settings()),
            "prompt": self._rubric.digest,
            "samples": options.samples,
            "reading": _READING,
        }
        super().__init__(spec.text, settings)
        self.announcement = f"{self.endpoint.name} is asked at {self.endpoint.host}" + (
            "" if self.endpoint.api_key_env is None else f", with the key in {self.endpoint.api_key_env}"
        )
        self.spent: str | None = None
        """Which limit ended the asking; None = none did."""
        self._unread = self._read = self._odd = 0

    def identity(self, item: Item) -> str:
        """Give the prompt; see `Scorer.identity`."""
        return self._rubric.prompt(item) or f"no reference: {json.dumps(item.messages)}"

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:
        """Estimate the requests and bound the money; see `Scorer.costs`."""
        samples, endpoint = self._options.samples, self.endpoint
        requests = todo * samples
        prompt = samples * (characters + todo * self._rubric.length) / 4
        answers = None if endpoint.most_tokens is None else requests * endpoint.most_tokens
        money = endpoint.cost(prompt, answers)
        said = "money unknown" if money is None else f"about {money:.4g} at most"
        return {
            "requests": requests,
            "money": money,
            "cost": f"{requests} requests to {endpoint.host}, {said}",
        }

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Ask for some at a time; items that a budget leaves out are in no list. See `Scorer.score`."""
        prompts = [self._rubric.prompt(item) for item in items]
        refused = [(at, Outcome(reason=_NO_REFERENCE)) for at, prompt in enumerate(prompts) if prompt is None]
        if refused:
            yield refused
        places = [at for at, prompt in enumerate(prompts) if prompt is not None]
        size = _RUNS * self.endpoint.max_concurrency
        for begin in range(0, len(places), size):
            if self.spent is not None:
                return
            some = places[begin : begin + size]
            yield self._judged({at: prompts[at] or "" for at in some})

    def requests(self, item: Item) -> list[Request]:
        """Give what is asked for an item, one request per sample; none where a reference is wanted and missing."""
        prompt = self._rubric.prompt(item)
        return [] if prompt is None else self._requests(prompt)

    def answered(self, items: Sequence[Item], ledger: Ledger, endpoint: Endpoint) -> list[bool]:
        """Say of which items every request is answered, so that nothing is sent for them.

        Args:
            items: To be scored.
            ledger: Where the answers are.
            endpoint: The judge as the ledger knows it.
        """
        keys = [[request.key(endpoint) for request in self.requests(item)] for item in items]
        known = ledger.known([key for some in keys for key in some], retry_failed=self._limits.retry_failed)
        return [known.issuperset(some) for some in keys]

    def close(self) -> None:
        """Say how many answers could not be read, and what was left out."""
        if self._unread:
            self.notes.append(f"{self._unread} of {self._unread + self._read} judgements could not be read")
        if self._odd:
            self.notes.append(
                f"{self._odd} of the judge's replies ended for an unknown reason; they were read, and `retry_failed=True` asks again"
            )
        if self.spent is not None:
            self.notes.append(f"not all was asked: {self.spent}")

    def _judged(self, prompts: Mapping[int, str]) -> Scored:
        requests = {at: self._requests(prompt) for at, prompt in prompts.items()}
        every = [one for some in requests.values() for one in some]
        ledger = self._ledger()
        ended = ask([Wanted(self.endpoint, every)], ledger, self._asking)
        said = iter(answers_to(ledger, self.endpoint, every))
        found: Scored = []
        for at, some in requests.items():
            answers = [answer for answer in islice(said, len(some)) if answer is not None]
            if len(answers) == len(some):
                found.append((at, self._mean(answers)))
        self._check_stopped(ended.stopped)
        return found

    def _requests(self, prompt: str) -> list[Request]:
        chat = [{"role": "user", "content": prompt}]
        return [make_request(chat, sample=n) for n in range(self._options.samples)]

    def _check_stopped(self, stopped: Mapping[str, str]) -> None:
        why = stopped.get(self.endpoint.name)
        if why is None:
            return
        if "used up" not in why:
            raise CallError(f"{self.endpoint.name}: {why}", verdict="stop")
        self.spent = why

    def _mean(self, answers: Sequence[Answer]) -> Outcome:
        """Average what can be read; where nothing can, the first reason counts."""
        found = [_outcome(answer) for answer in answers]
        scores = [outcome.score for outcome in found if outcome.score is not None]
        asked = sum(answer.status in ANSWERED for answer in answers)
        self._read += len(scores)
        self._unread += asked - len(scores)
        self._odd += sum(answer.status == "odd" for answer in answers)
        return Outcome(score=sum(scores) / len(scores)) if scores else found[0]


class JudgeClient(HttpClient):
    """Gives answers with the expected score beside them."""

    async def _send(self, content: bytes) -> bytes:
        return with_expectation(await super()._send(content))


def find_judge(path: str, name: str) -> Endpoint:
    """Find a judge in a crowd file.

    Args:
        path: The crowd file.
        name: Of one of its [[judge]] tables.

    Raises:
        OptionError: There is none of this name, or its key is not set.
    """
    judges = load_endpoints(path).judges
    found = next((judge for judge in judges if judge.name == name), None)
    if found is None:
        names = ", ".join(judge.name for judge in judges) or "none"
        raise OptionError(f"{path}: no [[judge]] named {name!r}; found {names}")
    check_reachable((found,), path=path)
    return found


def _endpoint(spec: Spec, options: JudgeOptions) -> Endpoint:
    """Find the judge, and say what it is asked for."""
    found = find_judge(spec.target, spec.part or "")
    extra = dict(found.extra_body)
    if options.logprobs and found.local is None:
        extra = {"logprobs": True, "top_logprobs": 20} | extra
    steady = 0.0 if found.temperature is None and options.samples == 1 else found.temperature
    return replace(found, extra_body=extra, temperature=steady)


def _outcome(answer: Answer) -> Outcome:
    if answer.status not in ANSWERED:
        return Outcome(reason=answer.error, passing=answer.status == "gave_up")
    text, expected = unpack_judgement(answer.text or "")
    why = no_verdict(answer.finish_reason, text)
    outcome = read_score(text) if why is None else Outcome(reason=why)
    return outcome if expected is None or outcome.score is None else Outcome(score=expected)


def _client(endpoint: Endpoint) -> Client:
    if endpoint.local is not None or not endpoint.extra_body.get("logprobs"):
        return open_client(endpoint)
    return JudgeClient(endpoint, key=key(endpoint))
