"""One run of `crowdselect collect`: from instructions to a pool."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from crowdselect._optional import check_optional
from crowdselect.ask.ask import (
    AskOptions,
    AskResult,
    InterruptedAskError,
    Opener,
    Wanted,
    Watch,
    ask,
    looked_into,
    open_client,
)
from crowdselect.ask.budget import Estimate, Limits, check_cost_cap, estimate_requests
from crowdselect.ask.conversations import ModelTally
from crowdselect.ask.endpoints import Endpoint, Endpoints, check_installed, check_reachable, load_endpoints
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.renamed import take_over
from crowdselect.collect.instructions import Instructions, open_instructions
from crowdselect.collect.seal import pool_manifest_path, read_pool_manifest, seal
from crowdselect.collect.sharded import generate
from crowdselect.collect.verifiable import keep_verifiable
from crowdselect.engine.here import EngineOptions
from crowdselect.errors import InputError, OptionError, OutputError
from crowdselect.pool.files import fingerprint, is_remote
from crowdselect.pool.howread import HowRead
from crowdselect.writing import check_manifest, check_output

_RULES = "finish reasons: 1"
"""Version of the rules for complete answers; a pool written by other rules is written again."""


_SEALING = "sealing"  # name of the ledger's note with the path of the pool being written


@dataclass(frozen=True, slots=True)
class Task:
    """What to collect.

    Attributes:
        instructions: A file of instructions.
        crowd: A crowd file that says how to reach the models, and the students, whose answers the pool marks.
        output: The Parquet file of the pool; None is enough for a plan.
        samples: Answers per model and instruction.
        ledger: The ledger's file; None = the output's name with `.ledger`, where there is an output.
        overwrite: Replace a file that is there and was not sealed from this ledger.
        force_ledger: Use a ledger on a network file system.
        read: How the instructions are read.
        only_verifiable: `VERIFIER#COLUMN`: leave out instructions whose reference that verifier cannot check.
        limits: How far to go.
        engine: Where local models answer.
    """

    instructions: str
    crowd: str
    output: str | None = None
    samples: int = 1
    ledger: str | None = None
    overwrite: bool = False
    force_ledger: bool = False
    read: HowRead = field(default_factory=HowRead)
    only_verifiable: str | None = None
    limits: Limits = field(default_factory=Limits)
    engine: EngineOptions = field(default_factory=EngineOptions)

    @property
    def target(self) -> Path:
        """The pool's file.

        Raises:
            OptionError: None is named.
        """
        if self.output is None:
            raise OptionError("say where to write with `output`, or add `dry_run=True`")
        return Path(self.output)

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is."""
        return Path(self.ledger) if self.ledger is not None else Path(f"{self.target}.ledger")


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run.

    Attributes:
        tallies: Model name → counts of answers in the pool and of missing ones.
        sealed: The pool's path; None if it was not written.
        fresh: Whether the pool existed already and is up to date.
        outcome: How the requests ended; None if nothing had to be sent.
        notes: Lines for the user.
    """

    tallies: dict[str, ModelTally]
    sealed: Path | None
    fresh: bool
    outcome: AskResult | None
    notes: list[str]


def plan(task: Task) -> tuple[dict[str, Estimate], list[str]]:
    """Estimate what `collect` would send, and refuse what it would refuse; nothing is sent or written.

    Args:
        task: What to collect; it need not say where to.

    Returns:
        Per model an estimate; and facts to tell the user.

    Raises:
        CrowdselectError: As `collect`, for all that can be known before.
    """
    endpoints = _checked(task)
    no_place = task.output is None and task.ledger is None
    with ExitStack() as stack:
        instructions = stack.enter_context(_instructions(task))
        ledger, renamed = stack.enter_context(
            looked_into(
                None if no_place else task.ledger_path,
                endpoints.answering,
                present=endpoints.names,
                force=task.force_ledger,
            )
        )
        if task.output is not None:
            _folder(task.target.absolute())
            _check_target(task, instructions, ledger)
        found = {
            endpoint.name: _estimate(task, renamed.before(endpoint), instructions, ledger)
            for endpoint in endpoints.answering
        }
        for name, line in renamed.notes.items():
            found[name].renamed = line
        _check_packages(task, [one for one in endpoints.answering if found[one.name].calls])
        return found, [*renamed.notes.values(), *instructions.notes]


def collect(
    task: Task,
    *,
    seal_only: bool = False,
    clients: Opener = open_client,
    watch: Watch | None = None,
    announce: Callable[[Sequence[Endpoint], int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Send the requests that have no answer yet, and write the pool.

    Args:
        task: What to collect.
        seal_only: Send nothing; write the pool from the answers so far.
        clients: Makes an endpoint's client; called when the first request is sent.
        watch: Shows progress.
        announce: Called before the first request with each endpoint to ask and its number of requests left.
        tell: Called before that with a line on each renamed model; these lines are in `notes`, too. Later with a line on
            each parameter that a server refuses.

    Returns:
        The counts of answers and missing ones, and the pool's path.

    Raises:
        CrowdselectError: A file or an option is invalid; nothing was sent. Or the ledger could not be written,
            see `LedgerError`.
    """
    endpoints = _checked(task, seal_only=seal_only)
    target = task.target.absolute()
    with ExitStack() as stack:
        instructions = stack.enter_context(_instructions(task, near=_folder(target)))
        ledger = stack.enter_context(Ledger(task.ledger_path, force=task.force_ledger))
        target = _check_target(task, instructions, ledger)
        instructions.notes += take_over(ledger, endpoints.answering, present=endpoints.names, tell=tell)
        outcome = None
        if not seal_only:
            ledger.note("last", _remembered(task))
            if not _is_finished(task, endpoints, instructions, ledger, target):
                if announce is not None:
                    for endpoint, requests in _left(task, endpoints, instructions, ledger):
                        announce([endpoint], requests)
                options = AskOptions(limits=task.limits, opener=clients, watch=watch, tell=tell)
                try:
                    outcome = _ask(task, endpoints, instructions, ledger, options)
                except InterruptedAskError as stopped:
                    return Report({}, None, False, stopped.outcome, instructions.notes)
        return _seal(task, endpoints, instructions, ledger, target=target, outcome=outcome)


def last_task(ledger: Path) -> dict[str, Any]:
    """Read from a ledger what its last run was about: instructions, crowd, samples, and how the first were read.

    Raises:
        InputError: There is no ledger, or no run.
    """
    if not ledger.exists():
        raise InputError(f"{ledger}: there is no ledger to seal; name the instructions and collect first")
    with Ledger(ledger, force=True) as opened:
        last = opened.noted("last")
    if not isinstance(last, dict):
        raise InputError(f"{ledger}: the ledger knows of no run; name the instructions and `crowd`")
    return last


def _remembered(task: Task) -> dict[str, Any]:
    """Give what `last_task` finds again, wherever that is run."""
    place = task.instructions if is_remote(task.instructions) else os.path.abspath(task.instructions)  # noqa: PTH100  (a glob is no Path)
    return {
        "instructions": place,
        "crowd": str(Path(task.crowd).absolute()),
        "samples": task.samples,
        "read": task.read.as_dict(),
        "only_verifiable": task.only_verifiable,
    }


def _instructions(task: Task, *, near: Path | None = None) -> Instructions:
    """Open the instructions to send."""
    instructions = open_instructions(task.instructions, near=near, read=task.read)
    if task.only_verifiable is not None:
        try:
            keep_verifiable(instructions, task.only_verifiable)
        except BaseException:
            instructions.close()
            raise
    return instructions


def _ask(
    task: Task, endpoints: Endpoints, instructions: Instructions, ledger: Ledger, options: AskOptions
) -> AskResult:
    if task.engine.on_ray:
        folder = Path(f"{task.output}.parts").absolute()
        requests = partial(instructions.requests, task.samples)
        generate(endpoints.answering, requests, ledger, folder, limits=task.limits, engine=task.engine)
    unpriced = sum(spent.unknown for spent in ledger.spent().values())
    if task.limits.max_cost is not None and unpriced:
        instructions.notes.append(
            f"`max_cost`: {unpriced} earlier answers were asked for without known prices and are not counted"
        )
    wanted = [Wanted(endpoint, instructions.requests(task.samples)) for endpoint in endpoints.answering]
    return ask(wanted, ledger, options, total=instructions.turns * task.samples)


def _left(
    task: Task, endpoints: Endpoints, instructions: Instructions, ledger: Ledger
) -> list[tuple[Endpoint, int]]:
    """Count each endpoint's requests left to send; with an empty ledger that is all of them."""
    if not ledger.spent():
        return [(endpoint, instructions.turns * task.samples) for endpoint in endpoints.answering]
    left = [
        (endpoint, _estimate(task, endpoint, instructions, ledger).calls) for endpoint in endpoints.answering
    ]
    return [(endpoint, calls) for endpoint, calls in left if calls]


def _estimate(task: Task, endpoint: Endpoint, instructions: Instructions, ledger: Ledger | None) -> Estimate:
    """Estimate the requests left for one model."""
    requests = instructions.requests(task.samples)
    return estimate_requests(requests, endpoint, ledger, retry_failed=task.limits.retry_failed)


def _seal(
    task: Task,
    endpoints: Endpoints,
    instructions: Instructions,
    ledger: Ledger,
    *,
    target: Path,
    outcome: AskResult | None,
) -> Report:
    """Write the pool, unless it is up to date."""
    stamp = _stamp(task, endpoints, instructions, ledger)
    manifest = read_pool_manifest(target)
    if manifest is not None and manifest.get("stamp") == stamp:
        return Report(_tallies(manifest), target, True, outcome, instructions.notes)
    facts = {"samples": task.samples, "stamp": stamp, "stopped": {} if outcome is None else outcome.stopped}
    ledger.note(_SEALING, str(target))
    ledger.flush()  # so that a pool left by a kill before its manifest is recognised as ours
    try:
        tallies, written = seal(
            instructions, endpoints.answering, ledger, target, samples=task.samples, facts=facts
        )
    finally:
        ledger.note(_SEALING, None)
    return Report(tallies, target if written else None, False, outcome, instructions.notes)


def _is_finished(
    task: Task, endpoints: Endpoints, instructions: Instructions, ledger: Ledger, target: Path
) -> bool:
    """Return whether the existing pool has every answer, so that nothing needs to be looked up."""
    manifest = read_pool_manifest(target)
    if manifest is None or manifest.get("missing") != 0:
        return False
    if task.limits.retry_failed and any("odd" in facts for facts in manifest["models"].values()):
        return False
    return manifest.get("stamp") == _stamp(task, endpoints, instructions, ledger)


def _stamp(task: Task, endpoints: Endpoints, instructions: Instructions, ledger: Ledger) -> str:
    """Hash everything a sealed pool depends on, including the state of the ledger."""
    students = [endpoint.name for endpoint in endpoints.students]
    parts = [
        _RULES,
        instructions.fingerprint,
        fingerprint(instructions.files),
        task.samples,
        [endpoint.digest.hex() for endpoint in endpoints.answering],
        ledger.noted("id"),
        [[model, spent.attempts] for model, spent in ledger.spent().items() if model],
        *([students] if students else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _tallies(manifest: dict[str, Any]) -> dict[str, ModelTally]:
    """Read the counts back from a pool's manifest."""
    tallies = {}
    for name, facts in manifest["models"].items():
        tally = ModelTally(
            cost=facts["cost"],
            cost_unknown=facts["cost_unknown"],
            prompt_tokens=facts["prompt_tokens"],
            completion_tokens=facts["completion_tokens"],
        )
        tally.statuses.update(facts["statuses"])
        tally.reasons.update(facts["reasons"])
        tally.odd.update(facts.get("odd", {}))
        tallies[name] = tally
    return tallies


def _checked(task: Task, *, seal_only: bool = False) -> Endpoints:
    """Read the crowd file, and refuse what could not be asked."""
    _check_task(task)
    endpoints = load_endpoints(task.crowd)
    if not seal_only:
        check_reachable(endpoints, path=task.crowd)
        check_cost_cap(endpoints.answering, task.limits.max_cost)
    return endpoints


def _check_packages(task: Task, asked: Sequence[Endpoint]) -> None:
    """Refuse to ask without the packages that it needs; none is loaded."""
    for endpoint in asked:
        check_installed(endpoint)
    if task.engine.on_ray and any(endpoint.local for endpoint in asked):
        check_optional("ray", extra="ray")


def _check_task(task: Task) -> None:
    if task.samples < 1:
        raise OptionError(f"`samples` is {task.samples}; wanted at least 1")
    if task.output is not None and task.target.suffix.lower() != ".parquet":
        raise OptionError(
            f"{task.output}: the pool is a Parquet file; give `output` a name that ends in .parquet"
        )
    limits = task.limits
    for name, value, least in (
        ("max_cost", limits.max_cost, 0.0),
        ("max_requests", limits.max_requests, 0),
        ("attempts", limits.attempts, 1),
        ("wait", limits.wait, 0.0),
        ("patience", limits.patience, 0.0),
    ):
        if value is not None and not value >= least:
            raise OptionError(f"`{name}` is {value:g}; wanted at least {least:g}")


def _folder(target: Path) -> Path:
    if not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}; make it first")
    return target.parent


def _check_target(task: Task, instructions: Instructions, ledger: Ledger | None) -> Path:
    """Refuse to replace anything but a pool that was sealed from this ledger; None = there is no ledger yet."""
    target, ours = task.target, False
    if ledger is not None:
        manifest = read_pool_manifest(target)
        ours = manifest is not None and manifest.get("ledger") == ledger.noted("id")
        ours = ours or ledger.noted(_SEALING) == str(target.absolute())
    inputs = [*instructions.files, Path(task.crowd), task.ledger_path]
    check_manifest(pool_manifest_path(target))
    return check_output(target, inputs=inputs, overwrite=task.overwrite or ours, folder=False)
