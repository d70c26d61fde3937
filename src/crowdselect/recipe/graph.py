"""Steps from the tables of a recipe: each is one command, with the steps it needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crowdselect.cli.methods import CROWD
from crowdselect.errors import OptionError
from crowdselect.methods import METHODS
from crowdselect.recipe.reading import (
    ARGUMENTS,
    BENCHMARKS,
    POOL,
    UNJUDGED,
    Recipe,
    SweepPoint,
    arguments,
    has_option,
    options_of,
    parsed,
    plain_name,
    titles_of,
)
from crowdselect.selection.options import BEST_STUDENT

OUTPUTS = {
    "collect": "pool.parquet",
    "reward": "rewards.parquet",
    "select": "chosen",
    "train": "model",
    **dict.fromkeys(BENCHMARKS, "result"),
    "compare": "compare.html",
    "evaluate.compare": "compare.html",
}
_NEEDED = {  # options whose absence the commands would refuse much later
    "collect": ("instructions", "crowd"),
    "reward": ("with",),
    "evaluate.mt-bench": ("judge",),
    "evaluate.arena-hard": ("judge", "baseline"),
    "evaluate.harness": ("tasks",),
}
_PLACEHOLDER = "placeholder"
MEASURED = ("model", "student")
"""Roles of the model that is measured: `--model`, or where that is the pool's, the argument."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a step: another step's output, or a path that the user named.

    Attributes:
        role: `pool`, `rewards`, `data`, `model`, `student`, `folder` or `not`: what the command calls it, if it has an option of that
            name.
        source: The step, or the path as written.
        label: Its name in a comparison.
        choice: For a comparison, what its model was trained on; models of one choice differ in the training alone.
    """

    role: str
    source: "Step | str"
    label: str = ""
    choice: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One command.

    Attributes:
        section: The recipe's section; decides the command.
        title: For people; distinguishes it from others of its section.
        options: As in the recipe.
        inputs: Its inputs, in the order in which the command takes them.
        where: The recipe's table, for messages.
        group: The title without the seed: seeds of one group are one method.
        against: For a comparison: the group that others are compared with.
    """

    section: str
    title: str
    options: Mapping[str, Any]
    inputs: tuple[Input, ...]
    where: str
    group: str = ""
    against: str | None = None

    @property
    def needs(self) -> list["Step"]:
        """The steps that must be done first."""
        return [one.source for one in self.inputs if isinstance(one.source, Step)]

    @property
    def output(self) -> str:
        """The name of its output inside its folder."""
        return OUTPUTS[self.section]

    @property
    def method(self) -> str | None:
        """The selection method; None if the step selects nothing."""
        chosen_by = str(self.options.get("method", CROWD)).partition(":")[0]
        return chosen_by if self.section == "select" else None

    @property
    def is_for_a_student(self) -> bool:
        """Whether it selects for a student: by its method, or because pairs reject the student's own answers."""
        entry = METHODS.get(self.method or "")
        return entry is not None and (entry.student or self.options.get("pairs") == BEST_STUDENT)

    def line(self, places: Sequence[str], output: str) -> list[str]:
        """Build its command line.

        Args:
            places: The path of each input, in the order of `inputs`.
            output: Where to write.

        Returns:
            The arguments after `crowdselect`, without those about display and resuming.
        """
        options = dict(self.options)
        argument = options.pop(ARGUMENTS.get(self.section, ""), None)
        positional = [] if argument is None else [str(argument)]
        named: list[str] = []
        for one, place in zip(self.inputs, places, strict=True):
            if has_option(self.section, one.role):
                named.append(f"--{one.role}={place}")
            elif self.section != "evaluate.compare":
                positional.append(place)
            if one.role in MEASURED or (self.section == "compare" and one.role == "folder"):
                named.append(f"--name={one.label}")
        if self.section == "evaluate.compare":
            positional = _groups(self.inputs, places)
            named += [f"--against={self.against}"] if self.against else []
        given = arguments(self.section, options, where=self.where)
        return [*self.section.split("."), *given, *named, f"--output={output}", "--", *positional]

    def values(self) -> dict[str, Any]:
        """Return every option's value by name, defaults included.

        Raises:
            OptionError: The command would refuse them.
        """
        line = self.line([_PLACEHOLDER] * len(self.inputs), _PLACEHOLDER)
        values = parsed(self.section, line[len(self.section.split(".")) :], where=self.where)
        argument = ARGUMENTS.get(self.section, "")
        if argument in self.options:
            values[argument] = self.options[argument]
        ours = ({one.role for one in self.inputs} | {"output", "name", "against"}) - set(self.options)
        return {name: value for name, value in values.items() if name not in ours}


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A model that is evaluated: a trained one, or one that the recipe names.

    Attributes:
        title: For people.
        group: The method: runs that differ only in seeds share it.
        is_random: Whether its rows were chosen at random.
        cell: Models are compared only within a cell: the same base model and training settings.
        budget: Number of rows chosen; None = unknown.
        model: The step that trains it, or the model as named.
        selection: The step or folder it was trained on; None = not trained here.
    """

    title: str
    group: str
    is_random: bool
    cell: str
    budget: int | None
    model: "Step | str"
    selection: "Step | str | None" = None


@dataclass(slots=True)
class StepGraph:
    """All steps of a recipe, each after those it needs."""

    recipe: Recipe
    steps: list[Step] = field(default_factory=list)
    pools: list[tuple[Input, ...]] = field(default_factory=list)
    """What is chosen from: a pool with its rewards, or several."""
    selections: list[Step] = field(default_factory=list)
    runs: list[MeasuredModel] = field(default_factory=list)
    results: dict[str, list[tuple[MeasuredModel, Step]]] = field(default_factory=dict)
    """Benchmark, with its swept options → the runs and the steps that evaluate them."""
    comparisons: dict[str, list[Step]] = field(default_factory=dict)
    """Benchmark, with its swept options → its comparisons."""


def build(recipe: Recipe) -> StepGraph:
    """Build the steps of a recipe.

    Raises:
        OptionError: A step has no input, two are equal, or a command would refuse its options.
    """
    graph = StepGraph(recipe)
    graph.pools = _rewarded(graph, _pools(graph))
    _add_selections(graph)
    _add_runs(graph)
    _add_results(graph)
    for step in graph.steps:
        lacking = [name for name in _NEEDED.get(step.section, ()) if name not in step.options]
        if lacking:
            raise OptionError(f"{step.where}: {' and '.join(lacking)} must be given")
        step.values()
    if not graph.steps:
        raise OptionError(f"{recipe.path}: the recipe has no step; crowdselect run --example prints one")
    return graph


def unused_students(graph: StepGraph) -> list[str]:
    """Say which base models are students of the crowd file whom no selection that they are trained on chooses for.

    Args:
        graph: From `build`.

    Returns:
        A line for each, for the user; training for nothing in particular is allowed.
    """
    from crowdselect.ask.endpoints import load_endpoints

    file = graph.recipe.one("collect").get("crowd")
    if file is None:
        return []
    students = {one.model: one.name for one in load_endpoints(graph.recipe.folder / str(file)).students}
    trained: dict[str, list[Step | str | None]] = {}
    for run in graph.runs:
        if isinstance(run.model, Step):
            trained.setdefault(str(run.model.options.get("base")), []).append(run.selection)
    return [
        f"{graph.recipe.path}: [train] has the base {base}, the student {students[base]!r} of {file}, and no [select] chooses "
        f'for it: add method = "teachable"'
        for base, selections in trained.items()
        if base in students and not any(isinstance(one, Step) and one.is_for_a_student for one in selections)
    ]


def _pools(graph: StepGraph) -> list[tuple[Input, ...]]:
    """Return the inputs for the pool, or for one pool per point of collect's sweep."""
    recipe = graph.recipe
    given = recipe.one(POOL)
    if "collect" in recipe.tables:
        if given:
            raise OptionError(f"{recipe.path}: [collect] makes the pool that [pool] names; keep one of them")
        if len({point.options.get("crowd") for point in recipe.tables["collect"]}) > 1:
            raise OptionError(
                f"{recipe.path}: [collect] has several crowds; wanted one, which the selections read too"
            )
        steps = _steps(recipe.tables["collect"], lambda _: [()])
        graph.steps += steps
        return [(Input(POOL, step, step.title),) for step in steps]
    if not given:
        return []
    if "path" not in given:
        raise OptionError(f"{recipe.path}: [pool] needs a path")
    return [(Input(POOL, str(given["path"])),)]


def _rewarded(graph: StepGraph, pools: list[tuple[Input, ...]]) -> list[tuple[Input, ...]]:
    recipe = graph.recipe
    if "reward" not in recipe.tables:
        return pools
    if "rewards" in recipe.one(POOL):
        raise OptionError(f"{recipe.path}: [reward] makes the rewards that [pool] names; keep one of them")
    _need(pools, "reward", recipe)
    steps = _steps(_with_defaults(recipe, "reward"), lambda _: pools)
    graph.steps += steps
    return [(*step.inputs, Input("rewards", step, step.title)) for step in steps]


def _add_selections(graph: StepGraph) -> None:
    recipe, pools = graph.recipe, graph.pools
    for section in recipe.tables:
        if section == "select":
            _need(pools, section, recipe)
            graph.selections += _steps(_with_defaults(recipe, section), lambda _: pools)
    graph.steps += graph.selections
    if "compare" not in recipe.tables:
        return
    for number, pool in enumerate(pools, start=1):
        own = [step for step in graph.selections if step.inputs == pool]
        _check_crowds(own, recipe.one("compare"), recipe)
        inputs = (*(Input("folder", step, step.title) for step in own), Input(POOL, pool[0].source))
        title = "compare the selections" + (f" of pool {number}" if len(pools) > 1 else "")
        graph.steps += [_step(one, title, inputs) for one in recipe.tables["compare"] if own]


def _check_crowds(selections: Sequence[Step], compare: Mapping[str, Any], recipe: Recipe) -> None:
    """Check, before anything is paid for, that selections with several crowds name one to compare by."""
    crowds = sorted({str(step.options.get("crowd", "(read off the names)")) for step in selections})
    if len(crowds) > 1 and "crowd" not in compare:
        raise OptionError(
            f"{recipe.path}: [compare]: the selections are made with different crowds ({', '.join(crowds)}); name the "
            'one to compare them by in [compare], as in crowd = "crowd.toml"'
        )


def _add_runs(graph: StepGraph) -> None:
    """Add a training step per selection, or per `data` in the recipe."""
    for point in graph.recipe.tables.get("train", ()):
        if "data" not in point.options and not graph.selections:
            raise OptionError(
                f'{point.where}: nothing to train on; add [select], or name a folder: data = "chosen"'
            )
    points = graph.recipe.tables.get("train", ())
    many = len({_without(point.options, "data", "seed") for point in points}) > 1
    several = len({_without(point.options, "data") for point in points}) > 1
    named = [v for v in points if "data" in v.options]
    sources = [*graph.selections] if len(named) < len(points) else []
    for step in _steps(
        points, lambda v: [(Input("data", s),) for s in sources] if "data" not in v.options else [()]
    ):
        source: Step | str = step.needs[0] if step.needs else str(step.options["data"])
        on = source.title if isinstance(source, Step) else source.rstrip("/")
        group = source.group if isinstance(source, Step) else on
        full = replace(step, title=f"{step.title} on {on}")
        graph.steps.append(full)
        graph.runs.append(
            MeasuredModel(
                title=f"{on}, {step.title}" if several else on,
                group=f"{group} {step.group}" if many else group,
                is_random=isinstance(source, Step) and _is_control(source),
                cell=_without(step.options, "data", "seed"),
                budget=source.options.get("budget") if isinstance(source, Step) else None,
                model=full,
                selection=source,
            )
        )


def _add_results(graph: StepGraph) -> None:
    tables = graph.recipe.tables
    for section in BENCHMARKS:
        points = tables.get(section, ())
        names = titles_of([replace(point, options=_plain(point)) for point in points])
        for name in dict.fromkeys(names):
            own = [point for point, title in zip(points, names, strict=True) if title == name]
            _measure(graph, name, own)
    for name, results in graph.results.items():
        graph.comparisons[name] = _comparisons(graph, name, results)
        graph.steps += graph.comparisons[name]


def _measure(graph: StepGraph, name: str, points: Sequence[SweepPoint]) -> None:
    """Add the evaluation of every trained model, and of those that the recipe names, on one benchmark."""
    given = [str(point.options["model"]) for point in points if "model" in point.options]
    runs = [*graph.runs, *(_named(graph, model) for model in given)]
    if not runs:
        raise OptionError(f'{points[0].where}: no model to measure; add [train], or model = "FOLDER"')
    role = MEASURED[points[0].section in UNJUDGED]
    plain, held_out = _held_out(graph, replace(points[0], options=_plain(points[0])))
    measured = []
    for run in runs:
        step = _step(plain, f"{name} of {run.title}", (Input(role, run.model, run.title), *held_out))
        measured.append((run, step))
    graph.steps += [step for _, step in measured]
    graph.results[name] = measured


def _held_out(graph: StepGraph, point: SweepPoint) -> tuple[SweepPoint, tuple[Input, ...]]:
    """Measure on the recipe's pool where the table names no rows, without what any student was trained on."""
    if not has_option(point.section, POOL) or not {"on", POOL}.isdisjoint(point.options):
        return point, ()
    named = [run.selection for run in graph.runs if isinstance(run.selection, str)]
    files = [one for one in named if not (graph.recipe.folder / one).is_dir()]
    if len(graph.pools) != 1 or files:
        problem = "there are several pools" if graph.pools else "there is no pool"
        if files:
            problem = f"a student trained on the file {files[0]} may know rows of the pool"
        names = "pool" if point.section == "evaluate.prefers" else "on, or pool"
        raise OptionError(f"{point.where}: {problem}: say what to measure on: {names}")
    trained_on: list[Step | str] = [*graph.selections, *dict.fromkeys(named)]
    return _from_pool(graph.recipe, point), (*graph.pools[0], *(Input("not", one) for one in trained_on))


def _named(graph: StepGraph, model: str) -> MeasuredModel:
    """Return a model that is evaluated untrained; the base model of some runs is compared only with those."""
    name = model.rpartition("#")[2].rstrip("/").rpartition("/")[2]
    meant = {model, _behind(graph.recipe.folder, model)}
    steps = [(run.cell, run.model) for run in graph.runs]
    cells = {cell for cell, step in steps if isinstance(step, Step) and step.options.get("base") in meant}
    return MeasuredModel(name, name, is_random=False, cell="\n".join(sorted(cells)), budget=None, model=model)


def _behind(folder: Path, model: str) -> str | None:
    """Return the model name in an entry of a crowd file, which may be a base model; None if there is no entry."""
    from crowdselect.ask.endpoints import load_endpoints

    file, sign, name = model.rpartition("#")
    if not sign or not (folder / file).is_file():
        return None
    return next((one.model for one in load_endpoints(folder / file).answering if one.name == name), None)


def _comparisons(graph: StepGraph, name: str, results: list[tuple[MeasuredModel, Step]]) -> list[Step]:
    """Compare every method with random selections of the same size and training; without those, all pairs."""
    comparisons = []
    table = graph.recipe.tables.get("evaluate.compare", ())
    point = (
        table[0] if table else SweepPoint("evaluate.compare", f"{graph.recipe.path}: [evaluate.compare]", {})
    )
    for cell in dict.fromkeys(run.cell for run, _ in results if isinstance(run.model, Step)) or [""]:
        own = [(run, step) for run, step in results if not run.cell or cell in run.cell.split("\n")]
        references = dict.fromkeys((run.group, run.budget) for run, _ in own if run.is_random)
        for reference, group in _parts(own, list(references)):
            if len({run.group for run, _ in group}) < 2:
                continue
            inputs = tuple(
                Input("folder", step, plain_name(run.group), _choice_of(run)) for run, step in group
            )
            title = f"compare {name}" + (f" with {reference}" if reference else "")
            step = _step(point, title, inputs)
            comparisons.append(replace(step, against=plain_name(reference) if reference else None))
    return comparisons


def _choice_of(run: MeasuredModel) -> str:
    return run.selection.title if isinstance(run.selection, Step) else run.selection or ""


def _parts(
    own: list[tuple[MeasuredModel, Step]], references: list[tuple[str, int | None]]
) -> list[tuple[str | None, list[tuple[MeasuredModel, Step]]]]:
    """Assign the runs to random references by budget; to the first if several match."""
    if not references:
        return [(None, own)]
    first = {budget: group for group, budget in reversed(references)}
    shared: dict[str, list[tuple[MeasuredModel, Step]]] = {group: [] for group in first.values()}
    for run, step in own:
        for group in [first[run.budget]] if run.budget in first else list(shared):
            shared[group].append((run, step))
    return list(shared.items())


def _steps(points: Iterable[SweepPoint], inputs: Any) -> list[Step]:  # noqa: ANN401  (a function of a point)
    """Build one step per point and choice of inputs, with titles that distinguish them."""
    cases = [(point, given) for point in points for given in inputs(point)]
    titles, groups = (
        titles_of([v for v, _ in cases], but=("data",)),
        titles_of([v for v, _ in cases], but=("seed", "data")),
    )
    steps = []
    for (point, given), title, group in zip(cases, titles, groups, strict=True):
        of = [one.label for one in given if one.label and len({g for v, g in cases if v is point}) > 1]
        more = f" of {of[-1]}" if of else ""
        steps.append(replace(_step(point, title + more, given), group=group + more))
    keys = [
        (step.section, step.title, repr(sorted(step.options.items(), key=repr)), tuple(map(id, step.inputs)))
        for step in steps
    ]
    repeated = next((step for step, key in zip(steps, keys, strict=True) if keys.count(key) > 1), None)
    if repeated is not None:
        raise OptionError(f"{repeated.where}: {repeated.title!r} appears twice; keep one")
    return steps


def _step(point: SweepPoint, title: str, inputs: tuple[Input, ...]) -> Step:
    return Step(point.section, title, point.options, inputs, point.where, group=title)


def _with_defaults(recipe: Recipe, section: str) -> list[SweepPoint]:
    """Pass options of [pool] and [collect] on to the points of a table that reads the pool."""
    return [_from_pool(recipe, point) for point in recipe.tables[section]]


def _from_pool(recipe: Recipe, point: SweepPoint) -> SweepPoint:
    passed = {name: value for name, value in recipe.one(POOL).items() if name != "path"}
    crowd = recipe.one("collect").get("crowd")
    if crowd is not None and point.section != "reward":
        passed["crowd"] = crowd
    known = options_of(point.section)
    passed = {name: value for name, value in passed.items() if name in known}
    return replace(point, options={**passed, **point.options})


def _need(pools: list[tuple[Input, ...]], section: str, recipe: Recipe) -> None:
    if not pools:
        raise OptionError(f"{recipe.path}: [{section}] needs a pool; add [collect], or [pool] with a path")


def _groups(inputs: Sequence[Input], places: Sequence[str]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for one, place in zip(inputs, places, strict=True):
        if "," in place and place != _PLACEHOLDER:
            raise OptionError(
                f"{place}: a folder with a comma in its path cannot be compared; choose another `output`"
            )
        found.setdefault((one.label, one.choice), []).append(place)
    return [f"{label}={','.join(folders)}" for (label, _), folders in found.items()]


def _is_control(step: Step) -> bool:
    entry = METHODS.get(step.method or "")
    return entry is not None and entry.control


def _without(options: Mapping[str, Any], *names: str) -> str:
    return repr(sorted((name, value) for name, value in options.items() if name not in names))


def _plain(point: SweepPoint) -> dict[str, Any]:
    return {name: value for name, value in point.options.items() if name != "model"}
