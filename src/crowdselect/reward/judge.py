"""A chat model as judge, using the clients, the ledger and the limits of `ask`."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from crowdselect.ask.ask import AskOptions, Opener, Wanted, answers_to, ask, open_client
from crowdselect.ask.budget import Limits, check_cost_cap
from crowdselect.ask.calls import ANSWERED, Client, Request, make_request
from crowdselect.ask.display import note_of
from crowdselect.ask.endpoints import Endpoint, check_reachable, key, load_endpoints
from crowdselect.ask.http_client import HttpClient
from crowdselect.ask.ledger import Answer, Ledger
from crowdselect.ask.refused import accepted
from crowdselect.errors import CallError, OptionError
from crowdselect.finish import no_verdict
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored
from crowdselect.reward.rubric import Rubric, read_score, unpack_judgement, with_expectation
from crowdselect.reward.specs import Spec

_RUNS = 8  # items per request in flight that are asked together
_READING = 3  # version of how replies are read: with another version, stored replies are read again
_NO_REFERENCE = "the prompt asks for a reference answer, and there is none"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """How a judge is asked.

    Attributes:
        samples: How often each answer is judged; the scores are averaged.
        prompt: A file with the user's own prompt; None = the built-in rubric.
        logprobs: Request the score tokens' log-probabilities, and use them if returned.
        max_cost: Cost cap, over all runs on the ledger. `max_requests` likewise.
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
        spec: The scorer as the user named it.
        options: How the judge is asked.
        ledger: Returns the ledger; called when the first answer is judged.
        retry_failed: Send requests again that failed before.
        keep_going: Ask on although half of the first replies were cut.
        client: Makes the client; None = HTTP or local, as in the crowd file.
    """

    def __init__(
        self,
        spec: Spec,
        options: JudgeOptions,
        *,
        ledger: Callable[[], Ledger],
        retry_failed: bool = False,
        keep_going: bool = False,
        client: Opener | None = None,
    ) -> None:
        self._options, self._ledger = options, ledger
        self._limits = Limits(
            max_cost=options.max_cost, max_requests=options.max_requests, retry_failed=retry_failed
        )
        self._asking = AskOptions(
            limits=self._limits, opener=client or _client, stop_if_cut=not keep_going, tell=note_of
        )
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
        """Which limit ended the requests; None = none did."""
        self._unread = self._read = self._odd = 0

    def identity(self, item: Item) -> str:
        """Return the prompt; see `Scorer.identity`."""
        return self._rubric.prompt(item) or f"no reference: {json.dumps(item.messages)}"

    def costs(self, todo: int, characters: int) -> Mapping[str, Any]:
        """Count the requests and bound the cost; see `Scorer.costs`."""
        samples, endpoint = self._options.samples, self.endpoint
        requests = todo * samples
        prompt = samples * (characters + todo * self._rubric.length) / 4
        answers = None if endpoint.most_tokens is None else requests * endpoint.most_tokens
        money = endpoint.cost(prompt, answers)
        shown = "money unknown" if money is None else f"about {money:.4g} at most"
        return {
            "requests": requests,
            "money": money,
            "cost": f"{requests} requests to {endpoint.host}, {shown}",
        }

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Ask in groups; items left out by a budget are in no list. See `Scorer.score`."""
        prompts = [self._rubric.prompt(item) for item in items]
        refused = [(at, Outcome(reason=_NO_REFERENCE)) for at, prompt in enumerate(prompts) if prompt is None]
        if refused:
            yield refused
        scorable = [at for at, prompt in enumerate(prompts) if prompt is not None]
        size = _RUNS * self.endpoint.max_concurrency
        for begin in range(0, len(scorable), size):
            if self.spent is not None:
                return
            group = scorable[begin : begin + size]
            yield self._judged({at: prompts[at] or "" for at in group})

    def requests(self, item: Item) -> list[Request]:
        """Return an item's requests, one per sample; none if a reference is needed and missing."""
        prompt = self._rubric.prompt(item)
        return [] if prompt is None else self._requests(prompt)

    def answered(self, items: Sequence[Item], ledger: Ledger, endpoint: Endpoint) -> list[bool]:
        """Return for each item whether all its requests are answered, so that nothing is sent for it.

        Args:
            items: The items to score.
            ledger: Where the answers are.
            endpoint: The judge under its name in the ledger.
        """
        endpoint = accepted(ledger, endpoint)
        keys = [[request.key(endpoint) for request in self.requests(item)] for item in items]
        known = ledger.known([key for some in keys for key in some], retry_failed=self._limits.retry_failed)
        return [known.issuperset(some) for some in keys]

    def close(self) -> None:
        """Add notes on replies that could not be read and on items left out."""
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
        every = [request for some in requests.values() for request in some]
        ledger = self._ledger()
        ended = ask([Wanted(self.endpoint, every)], ledger, self._asking)
        replies = iter(answers_to(ledger, self.endpoint, every))
        found: Scored = []
        for at, some in requests.items():
            answers = [answer for answer in islice(replies, len(some)) if answer is not None]
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
        """Average the scores that could be read; if none could, return the first reason."""
        outcomes = [_outcome(answer) for answer in answers]
        scores = [outcome.score for outcome in outcomes if outcome.score is not None]
        answered = sum(answer.status in ANSWERED for answer in answers)
        self._read += len(scores)
        self._unread += answered - len(scores)
        self._odd += sum(answer.status == "odd" for answer in answers)
        return Outcome(score=sum(scores) / len(scores)) if scores else outcomes[0]


class JudgeClient(HttpClient):
    """A client that adds the expected score to each reply."""

    async def _send(self, content: bytes) -> bytes:
        return with_expectation(await super()._send(content))


def find_judge(path: str, name: str) -> Endpoint:
    """Find a judge in a crowd file.

    Args:
        path: The crowd file.
        name: The name of one of its [[judge]] tables.

    Raises:
        OptionError: There is no judge of this name, or its key is not set.
    """
    judges = load_endpoints(path).judges
    endpoint = next((judge for judge in judges if judge.name == name), None)
    if endpoint is None:
        names = ", ".join(judge.name for judge in judges) or "none"
        raise OptionError(f"{path}: no [[judge]] named {name!r}; found {names}")
    check_reachable((endpoint,), path=path)
    return endpoint


def _endpoint(spec: Spec, options: JudgeOptions) -> Endpoint:
    """Return the judge's endpoint, with log-probabilities and temperature set."""
    found = find_judge(spec.target, spec.part or "")
    extra, waived = dict(found.extra_body), set[str]()
    if options.logprobs and found.logprobs is not False and found.local is None:
        extra = {"logprobs": True, "top_logprobs": 20} | extra
        waived |= {"logprobs", "top_logprobs"} - found.extra_body.keys() if found.logprobs is None else set()
    temperature = found.temperature
    if temperature is None and options.samples == 1 and not found.default_temperature:
        temperature = 0.0
        waived.add("temperature")
    return replace(found, extra_body=extra, temperature=temperature, waived=frozenset(waived))


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
