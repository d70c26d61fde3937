"""A command's options: one dataclass made in one place, sections of help, and messages that name them as they are typed."""

import json

import click
import pytest
from click.testing import CliRunner

from crowdselect.cli.flags import Command, Option, as_flags, named_options
from crowdselect.cli.main import cli
from crowdselect.cli.options import made
from crowdselect.errors import CrowdselectError, MissingExtraError, OptionError, OutputError, near_miss
from crowdselect.pool.howread import READ_OPTIONS
from crowdselect.terminal import note, say, show, warn

OPTIONS = [
    Option(["-o", "--output"]),
    Option(["--max-cost"], type=float),
    Option(["--overwrite"], is_flag=True),
    Option(["--no-cache"], is_flag=True),
    Option(["--logprobs/--no-logprobs"], default=True),
    Option(["--for", "trainer"]),
    Option(["--reward"], multiple=True),
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`max_cost` is -1", "--max-cost is -1"),
        ("`max_cost=2.5`, `output='a b'`", "--max-cost 2.5, --output 'a b'"),
        ("pass `overwrite=True`", "pass --overwrite"),
        ("pass `overwrite`", "pass --overwrite"),
        ("`cache=False` or `cache`", "--no-cache or --no-cache"),
        ("`logprobs=True`, `logprobs=False`", "--logprobs, --no-logprobs"),
        ("`trainer='axolotl'`, `for=trl`", "--for axolotl, --for trl"),
        ("`overwrite=False` and `cache=True`", "`overwrite=False` and `cache=True`"),
        ("`budget` and `crowdselect reward`", "`budget` and `crowdselect reward`"),
        ("`reward=mean-rank`", "--reward mean-rank"),
        ("nothing, `` and ` alone", "nothing, `` and ` alone"),
    ],
)
def test_python_names_become_flags(text, shown):
    assert as_flags(text, options=named_options(Command("c", params=OPTIONS))) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("select with `pairs='best-worst'`", "select with `crowdselect select ... --pairs best-worst`"),
        ("leave them out: `missing='empty'`", "leave them out: `crowdselect select ... --missing empty`"),
        ("`pairs` and `format='alpaca'`", "`pairs` and --format alpaca"),
        ("`cache=False`, `engine='ray'`", "`cache=False`, `engine='ray'`"),
    ],
)
def test_advice_on_choosing_is_a_line_of_select_in_commands_that_do_not_choose(text, shown):
    with click.Context(cli, info_name="crowdselect") as root:
        export = cli.get_command(root, "export")
        assert export.spoken(click.Context(export, parent=root))(text) == shown
        recipe = cli.get_command(root, "run")
        assert (
            recipe.spoken(click.Context(recipe, parent=root))("`pairs='best-worst'`")
            == "`pairs='best-worst'`"
        )


def _command(act) -> Command:
    return Command("c", params=OPTIONS, callback=lambda **_: act())


@pytest.mark.parametrize("kind", [CrowdselectError, OptionError, OutputError, MissingExtraError])
def test_an_error_keeps_its_type_and_names_the_flag(kind):
    def act():
        raise kind("`max_cost` is too high; pass `overwrite=True`")

    result = CliRunner().invoke(_command(act), [])
    assert type(result.exception) is kind
    assert str(result.exception) == "--max-cost is too high; pass --overwrite"


def test_what_is_said_names_the_flag_and_what_a_pool_says_stays():
    def act():
        say("`output` is")
        show("`output` is")
        note("`output` is")
        warn("`output` is")

    result = CliRunner().invoke(_command(act), [])
    assert result.stdout == "--output is\n`output` is\n"
    assert result.stderr == "--output is\nwarning: --output is\n"


def test_words_are_changed_while_a_command_runs_only(capsys):
    with pytest.raises(OptionError):
        _command(made_error).main(["--overwrite"], standalone_mode=False)
    say("`output`")
    assert capsys.readouterr().out == "`output`\n"


def made_error():
    """Raise an error of ours."""
    raise OptionError("no")


def _commands(group: click.Group, name: str = "") -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = []
    for inner in group.list_commands(context):
        command = group.get_command(context, inner)
        called = f"{name} {inner}".strip()
        found += _commands(command, called) if isinstance(command, click.Group) else [(called, command)]
    return found


COMMANDS = dict(_commands(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_ours_and_its_flags_are_their_names(name):
    command = COMMANDS[name]
    assert isinstance(command, Command)
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        assert isinstance(option, Option), option.opts
        # A flag that stands for another name could be taken for the field of that name.
        named = named_options(command)
        assert named[str(option.name)] is option, option.opts
        assert named[option.flag.removeprefix("--").replace("-", "_")] is option, option.opts


def _given(name: str) -> dict[str, object]:
    """The values of a command that is told nothing but what it must be told."""
    command = COMMANDS[name]
    given = {str(param.name): "x" for param in command.params if param.required}
    context = click.Context(command)
    handed_over = [p for p in command.params if p.expose_value and str(p.name) not in given]
    rest = {str(p.name): p.get_default(context) for p in handed_over}
    values = {key: None if "UNSET" in repr(value) else value for key, value in {**given, **rest}.items()}
    return {**values, "budget": 3} if "budget" in values else values


@pytest.mark.parametrize(
    "name", ["select", "robustness", "compare", "reward", "collect", "evaluate mt-bench"]
)
def test_every_option_is_a_field_of_the_commands_dataclass(name):
    from crowdselect.cli import choosing
    from crowdselect.cli.compare import _Comparing
    from crowdselect.collect.job import Task
    from crowdselect.evaluate.protocols import PROTOCOLS, EvaluateOptions
    from crowdselect.methods import METHODS
    from crowdselect.reward.job import JobOptions

    given = _given(name)
    own = {
        "reward": (*READ_OPTIONS, "pool", "limit", "specs", "names", "output", "dry_run", "as_json"),
        "collect": ("dry_run", "seal_only", "as_json"),
        "evaluate mt-bench": ("dry_run", "as_json"),
        "select": tuple({setting.name for entry in METHODS.values() for setting in entry.settings}),
    }
    for part in own.get(name, ()):
        del given[part]
    kind, more = {
        "select": (choosing.Selecting, {"settings": {}}),
        "robustness": (choosing.Trying, {}),
        "compare": (_Comparing, {}),
        "reward": (JobOptions, {}),
        "collect": (Task, {}),
        "evaluate mt-bench": (EvaluateOptions, {"protocol": PROTOCOLS["mt-bench"]}),
    }[name]
    if name == "select":
        given["output"] = "out"
    if name == "collect":
        given |= {"instructions": "i", "crowd": "c"}
    if name == "evaluate mt-bench":
        given |= {"answers": "a", "judge": "c.toml#j"}
    assert isinstance(made(kind, given, **more), kind)
    with pytest.raises(TypeError, match="has no field for: unheard_of"):
        made(kind, {**given, "unheard_of": 1}, **more)


def test_weights_budget_and_seed_arrive_as_they_are_typed(run, sim, monkeypatch):
    from crowdselect.cli import choosing

    seen = []
    monkeypatch.setattr(
        choosing, "_choose", lambda asked, method, _fitting, run: seen.append((asked, method))
    )
    ran = run(
        "select", sim, "--budget", 7, "--seed", 3, "--weights", "difficulty=-1", "--no-cache", "--dry-run"
    )
    assert ran.code == 0, ran.err
    ((asked, method),) = seen
    assert (asked.options.budget, asked.options.seed, asked.options.cache) == (7, 3, False)
    assert asked.options.weights["difficulty"] == -1
    assert (asked.method, method.name) == ("crowd", "crowdselect")
    assert asked.source.pool == str(sim)


@pytest.mark.parametrize(
    ("word", "known", "said"),
    [
        ("scroe", ["score", "id"], "; did you mean 'score'?"),
        ("zzz", ["score", "id"], ""),
        ("x", [], ""),
    ],
)
def test_near_misses(word, known, said):
    assert near_miss(word, known) == said


def test_columns_metrics_and_ids_are_told_with_what_was_meant(run, sim, tmp_path):
    dry = ("select", sim, "--budget", 3, "--dry-run")
    run(*dry, "--method", "column:instuction").refuses("did you mean 'instruction'?")
    run(*dry, "--reward", "simulated_rewrad").refuses("did you mean 'simulated_reward'?")
    run(*dry, "--weights", "dificulty=1").refuses("did you mean 'difficulty'?")
    assert run("select", sim, "--budget", 3, "-o", tmp_path / "out").code == 0
    known = run("select", sim, "--budget", 3, "--dry-run", "--json")
    assert known.code == 0
    chosen = json.loads(known.out)["chosen"][0]["id"]
    run("why", tmp_path / "out", f"{chosen}x").refuses(f"did you mean '{chosen}'?")
