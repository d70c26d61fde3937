"""What to type next: commands end with exact lines, made of the files and options that they were given.

A line can be pasted as it stands. Where it needs something of the user's choice, a model, it names one that exists; only where
nothing says which of several columns is the reward, NAME stands for it.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from crowdselect.cli.flags import Option, typed_line
from crowdselect.cli.values import Share
from crowdselect.manifests import REPORT, own_files
from crowdselect.methods import METHODS
from crowdselect.numeric.metrics import by_family
from crowdselect.pool.howread import EMPTY, READ_OPTIONS
from crowdselect.pool.layouts import says_reward
from crowdselect.pool.views import direction_of
from crowdselect.selection.inspection import proposed_weights
from crowdselect.selection.records import RL
from crowdselect.selection.selection import Selection
from crowdselect.selection.telling import fair_weights
from crowdselect.selection.trainers import TRAINERS
from crowdselect.terminal import say, show, shown_path
from crowdselect.writing import read_manifest

POOL = (*READ_OPTIONS, "limit")
"""The options that say how a pool is read."""
SCORED_POOL = (*POOL, "rewards", "crowd")
"""The same, of a pool with rewards."""
STUDENT = ("student", "student_answers", "student_column", "good_above")
"""Who the student is, and what is good."""
_BUDGET = "10%"
_REWARD = "NAME"
_FEWEST_CLUSTERED = 20  # texts from which on clusters are asked for: there are ten by default
_MOST_COMPARED = 5
_SCORER = "hf:Skywork/Skywork-Reward-Llama-3.1-8B"
_STUDENT = "Qwen/Qwen2.5-3B"
_SETTINGS = {setting.name for entry in METHODS.values() for setting in entry.settings}
_SPREAD = {"clusters", "cluster_by", "embedder", "near_duplicates"}
_WRITING = {
    "reference",
    "source",
    "pass_rate",
    "output",
    "dry_run",
    "overwrite",
    "report",
    "format",
    "file_type",
    "trainer",
    "license",
}
_OF_THIS_CHOICE = {"pool", "budget", "method", "weights", "seeds", *_SETTINGS, *_SPREAD, *_WRITING}
"""Options of `select` that a random selection to compare with does not share."""
_OF_TRYING = {"bootstraps", "crowd_sizes", "try_clusters", "seeds", *_WRITING}
"""Options of `robustness` that `select` lacks, or that say where to write."""

Steps = Mapping[str, Sequence[Sequence[str]]]
"""Purpose → commands to run in this order, each as its words; one of another program as the text that is typed."""


def say_next(steps: Steps) -> None:
    """Print next steps, each command on a line of its own that can be pasted into a shell."""
    if steps:
        say()
    for what, commands in steps.items():
        say(f"{what}:")
        for words in commands:
            show(f"  {words if isinstance(words, str) else typed_line(words)}")


def after_inspect(pool: str, found: Mapping[str, Any], *, reward: str | None) -> Steps:
    """Return the step after `inspect`: choose, or score the answers if there is no reward; none where there are no answers either.

    Args:
        pool: As it was typed.
        found: From `crowdselect.inspect_pool`; if answers without a text have rewards, these are left out.
        reward: The column that was named.
    """
    columns = found["reward_columns"] if reward is None else [reward, *found["reward_columns"]]
    if columns:
        texts = found["instructions"] - found["without_text"] - found["duplicates"]
        options = given(*SCORED_POOL)
        options += ["--missing", EMPTY] if found["empty_answers"] else []
        options += ["--clusters", "0"] if texts < _FEWEST_CLUSTERED else []
        if found["id_doubted"]:
            _add_columns(options, "id=")
        usual = found["usual_reward"]
        for_student = bool(found["students"])
        described = found["rewards"]
        used = described.get(usual, next(iter(described.values()), None))  # one that is named is alone
        weights = proposed_weights(used, found["instructions"])
        tells_of = "both" if used is None else used["tells_of"]
        if tells_of == "instructions" and reward is not None and found["empty_answers"] is not None:
            column = f"column:{direction_of(reward)[0]}"
            words = ["select", pool, *options, "--method", column, "--answer", "random"]
            return {"choose a tenth of it": [[*words, "--budget", _BUDGET, "-o", free_name("chosen")]]}
        if tells_of == "answers" and not for_student:
            options += ["--method", "random"]  # the metrics are the same in all rows; the answers are not
        elif found["few_answered"]:
            options += ["--weights", _plain(fair_weights(weights))]
        elif len(found["crowd"]) > 1 and not for_student and not by_family(weights):
            options += ["--weights", _plain(weights)]  # else most could not be chosen
        return choosing(
            pool,
            options,
            rewards=columns,
            reward=reward,
            usual=usual,
            for_student=for_student,
            alone=len(found["crowd"]) == 1,
        )
    unanswered = found["empty_answers"] is None
    return {} if unanswered else scoring(pool, given(*POOL), alone=not found["reward_as_text"])


def _add_columns(options: list[str], pair: str) -> None:
    """Name one column more."""
    if "--columns" in options:
        options[options.index("--columns") + 1] += f",{pair}"
    else:
        options += ["--columns", pair]


def after_crowd(pool: str, file: str | None) -> Steps:
    """Return the step after `crowd`: see what the crowd file changes, and what to choose by with it, or write one.

    Args:
        pool: As it was typed.
        file: The crowd file that was written; None = none.
    """
    if file is None:
        words = ["crowd", pool, *given(*SCORED_POOL), "-o", free_name("crowd.toml")]
        return {"write them to a file, to correct them": [words]}
    words = ["inspect", pool, *given(*POOL, "rewards"), "--crowd", file]
    return {"when it is right, see what to choose by": [words]}


def choosing(
    pool: str,
    options: Sequence[str],
    *,
    rewards: Sequence[str],
    reward: str | None = None,
    usual: str | None = None,
    for_student: bool = False,
    alone: bool = False,
) -> Steps:
    """Return the step that chooses from a pool.

    Args:
        pool: As it was typed.
        options: By which it is read.
        rewards: Its reward columns.
        reward: The one that the user named.
        usual: The one that is meant where none is named; without one of these, the first of several is named, if its name
            says that it is a reward.
        for_student: A student is named or marked: the step chooses for it.
        alone: One model answered: no crowd can choose, its rewards can.
    """
    rewards = list(dict.fromkeys(rewards))
    open_ = reward is None and usual is None and len(rewards) > 1
    clear = open_ and says_reward(rewards[0])
    named = (rewards[0] if clear else _REWARD) if open_ else reward
    by = [] if named is None or (len(rewards) < 2 and named == usual) else ["--reward", named]
    method = "teachable" if for_student else "reward" if alone else None
    by += [] if method is None else ["--method", method]
    words = ["select", pool, *options, *by, "--budget", _BUDGET, "-o", free_name("chosen")]
    which = f" ({_REWARD} is the reward, one of: {', '.join(rewards)})" if open_ and not clear else ""
    return {f"choose a tenth of it{which}": [words]}


def scoring(pool: str, options: Sequence[str], *, alone: bool = True) -> Steps:
    """Return the step that scores the answers of a pool.

    Args:
        pool: As it was typed.
        options: By which it is read.
        alone: Nothing else leads to a reward.
    """
    words = ["reward", pool, *options, "--with", _SCORER, "-o", free_name("rewards.parquet")]
    return {f"{'' if alone else 'or '}score its answers (with a reward model of your choice)": [words]}


def without_dry_run(output: str | None = None) -> Steps:
    """Return the running command without `--dry-run`.

    Args:
        output: Where to write, if no place was named; None = the command writes nothing here.
    """
    context = click.get_current_context()
    to = [] if output is None or context.params.get("output") else ["-o", free_name(output)]
    return {"do it": [[*_command(context), *given(without={"dry_run"}), *to]]}


def after_select(folder: str, selection: Selection, *, pool: str) -> Steps:
    """Return the steps after `select`: explain a row, make a page, compare with a random selection, train.

    Args:
        folder: Where it was written.
        selection: What is in it.
        pool: As it was typed.
    """
    first = selection.chosen[0]
    dashes = ["--"] if first.startswith("-") else []  # an id is no option
    steps: dict[str, Sequence[Sequence[str]]] = {"why a row is in or out": [["why", *dashes, folder, first]]}
    if not (Path(folder) / REPORT).exists():
        steps["a page about it"] = [["report", folder]]
    if selection.options["method"] != "random":
        other = f"{folder.rstrip('/')}-random"
        same = given(without=_OF_THIS_CHOICE) if click.get_current_context().info_name == "select" else []
        budget = ["--budget", str(selection.options["budget"])]
        drawn = ["select", pool, *same, *budget, "--method", "random", "-o", other]
        steps["compare it with a random choice"] = [
            *([] if Path(other).exists() else [drawn]),
            ["compare", folder, other],
        ]
    return {**steps, **training(folder)}


def after_why(folder: str, instruction_id: str) -> Steps:
    """Return the step after `why`: show all answers of the row."""
    row = [f"--id={instruction_id}"] if instruction_id.startswith("-") else ["--id", instruction_id]
    return {"all its answers": [["view", folder, *given("pool"), *row]]}


def comparing(folders: Sequence[str]) -> Steps:
    """Return the step that compares selections."""
    return {"compare": [["compare", *folders]]}


def training(folder: str) -> Steps:
    """Return the step that trains on a selection, by the trainer that it was written for; none if it has no training file, as data for reinforcement learning is for other trainers."""
    manifest = read_manifest(Path(folder)) or {}
    export = manifest.get("export", {})
    if export.get("format") == RL:
        return {}
    if not any(name.startswith("train.") for name in own_files(Path(folder))):
        return {}
    trainer = TRAINERS.get(export.get("trainer") or "")
    if trainer is not None:
        line = trainer.command(shown_path(folder), pairs=export.get("format") == "dpo")
        return {f"train on it with {trainer.title} (its file says where your model goes)": [line]}
    words = ["train", folder, "--base", _STUDENT, "-o", f"{folder.rstrip('/')}-student"]
    return {"train on it (a model of your choice)": [words]}


def after_train(model: str) -> Steps:
    """Return the step after `train`: measure the student. The judge and the questions are for the user to name."""
    return {f"measure it (as --model {shown_path(model)})": [["evaluate", "mt-bench", "--help"]]}


def after_evaluation(folder: str) -> Steps:
    """Return the step after an evaluation: compare it with other results of the same benchmark that lie beside it."""
    place = Path(folder).absolute()
    mine = read_manifest(place) or {}
    found: list[Path] = []
    with suppress(OSError):  # a folder that may not be listed costs the hint alone
        beside = sorted(other for other in place.parent.iterdir() if other.is_dir() and other != place)
        found = [other for other in beside if _same_benchmark(read_manifest(other), mine)]
    if not found:
        return {"compare it, once another model is evaluated": [["evaluate", "compare", "--help"]]}
    others = [shown_path(other) for other in found[:_MOST_COMPARED]]
    return {"is it better?": [["evaluate", "compare", *others, folder]]}


def _same_benchmark(other: Mapping[str, Any] | None, mine: Mapping[str, Any]) -> bool:
    return other is not None and all(other.get(name) == mine.get(name) for name in ("kind", "benchmark"))


def after_robustness() -> Steps:
    """Return the step after `robustness`: make the selection that was tried."""
    return {"make this choice": [["select", *given(without=_OF_TRYING), "-o", free_name("chosen")]]}


def given(*names: str, without: AbstractSet[str] | None = None) -> list[str]:
    """Return options and arguments of the running command as words: as typed, or from its `--config` file.

    Args:
        names: Names of parameters; without any, all are returned.
        without: Parameters to leave out of all.
    """
    context = click.get_current_context()
    from_file = context.params.get("config") is not None and without is not None
    sources = {ParameterSource.COMMANDLINE} | ({ParameterSource.DEFAULT_MAP} if from_file else set())
    words: list[str] = []
    for param in sorted(context.command.params, key=lambda param: isinstance(param, click.Option)):
        name = str(param.name)
        wanted = name not in (without or ()) if not names else name in names
        if wanted and context.get_parameter_source(name) in sources and not (from_file and name == "config"):
            words += words_of(param, context.params.get(name))
    return words


def words_of(param: click.Parameter, value: Any) -> list[str]:  # noqa: ANN401  (what click made of it)
    """Return a parameter of a command as words; none where nothing says the value."""
    pairs = isinstance(value, tuple) and all(isinstance(one, tuple) for one in value) and value
    if pairs and isinstance(param, Option):
        return [param.opts[0], ",".join(f"{what}={column}" for what, column in value)]
    values = value if isinstance(value, tuple) else [value]
    if isinstance(param, click.Argument):
        return [str(one) for one in values]
    if not isinstance(param, Option) or value is None:
        return []
    if param.is_flag:
        return [param.opts[0]] if value else list(param.secondary_opts[:1])
    return [word for one in values for word in (param.opts[0], _plain(one))]


def _plain(value: object) -> str:
    if isinstance(value, Share):
        return f"{value.percent:g}%"
    if isinstance(value, dict):
        return ",".join(f"{name}={_plain(number)}" for name, number in value.items())
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def free_name(name: str) -> str:
    """Return a file name that is not taken: nothing is to be overwritten.

    Example:
        >>> free_name("no such file.parquet")
        'no such file.parquet'
    """
    stem, dot, ending = name.partition(".")
    names = (f"{stem}-{number}{dot}{ending}" for number in count(2))
    return next(one for one in chain([name], names) if not Path(one).exists())


def _command(context: click.Context) -> list[str]:
    """Return the words that call a command, without the name of the program."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return names
