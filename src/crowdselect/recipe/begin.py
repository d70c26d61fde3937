"""The command `crowdselect init`: a recipe to begin with, for what one has, and the crowd file that it names."""

import click

from crowdselect.cli.flags import Command
from crowdselect.cli.options import option, overwrite_option

_HEAD = """\
# A recipe: the whole chain in one file.   crowdselect run recipe.toml --dry-run   says what it would do.
#
# Every table is one command; its keys are the options of that command, without dashes in front. Paths begin at this
# file's folder. All tables: crowdselect run --example; what they mean: docs/recipe.md.
"""
_COLLECT = """
[collect]
instructions = "instructions.jsonl"  # a column instruction, or messages; and an id if there is one
crowd = "crowd.toml"                 # whom to ask; please edit
# max-cost = 20                      # a hard stop over all runs; needs price_in and price_out in the crowd file
"""
_POOL = """
[pool]
path = "answers.jsonl"               # a row per answer: instruction, model, response; other forms: docs/pools.md
"""
_SCORED = """
[pool]
path = "pool.parquet"                # a row per answer: instruction, model, response, score; other forms: docs/pools.md
# rewards = "rewards.parquet"        # if they are in a file of their own
"""
_SCORES = """
[pool]
path = "scores.parquet"              # a number per model and instruction, and the right answer; forms: docs/pools.md
"""
_JUDGE = """
[reward]
with = "judge:crowd.toml#judge"      # or a reward model: "hf:Skywork/Skywork-Reward-Llama-3.1-8B"
"""
_REWARD = """
[reward]
with = "hf:Skywork/Skywork-Reward-Llama-3.1-8B"   # or a chat model as a judge: docs/judges.md
"""
_FOR_STUDENT = """
[[select]]
method = "teachable"                 # what the student misses and models like it manage: docs/for-your-student.md
budget = "10%"
"""
_SELECT = """
[[select]]
budget = "10%"
weights = { difficulty = 1, separability = 1 }    # stability = 2 too, if a family of models of several sizes answered
"""
_RL = """
[[select]]                           # prompts for reinforcement learning: docs/rl.md
format = "rl"
reference = "answer"                 # the column of the right answer
budget = "10%"
weights = { difficulty = 1, separability = 1 }
"""
_RANDOM = """
[[select]]
method = "random"                    # what every result is held against
budget = "10%"
"""
_COMPARE = """
[compare]                            # a page with the selections side by side
"""
_TRAIN = """
[train]                              # one model per selection
base = "Qwen/Qwen2.5-0.5B-Instruct"
lora = true
eval-share = 0.05
"""
_CROWD = """\
# Whom to ask, and how to reach them: docs/collect.md explains all keys. Keys of servers go into environment variables
# (api_key_env = "NAME"), never into this file.

[defaults]
max_tokens = 1024
temperature = 0.0
# price_in = 0.15                            # of a million tokens sent, in any one currency; needed for a cost, and for
# price_out = 0.60                           # max-cost: of a million tokens received; a table of its own may say other prices

[[model]]
name = "qwen2.5-7b-instruct"
base_url = "http://localhost:8001/v1"        # vllm serve Qwen/Qwen2.5-7B-Instruct --port 8001
model = "Qwen/Qwen2.5-7B-Instruct"

[[model]]
name = "llama3.2:3b"
base_url = "http://localhost:11434/v1"       # Ollama

[[student]]                                  # the model that is to be trained; never part of the crowd
name = "qwen2.5-0.5b-instruct"
base_url = "http://localhost:8000/v1"
model = "Qwen/Qwen2.5-0.5B-Instruct"

[[judge]]
name = "judge"
base_url = "http://localhost:8002/v1"
model = "Qwen/Qwen2.5-32B-Instruct"
"""


def files_for(*, answers: bool, rewards: bool) -> dict[str, str]:
    """Write what one begins with.

    Args:
        answers: Whether several models have answered already.
        rewards: Whether their answers have scores already.

    Returns:
        File name → text: `recipe.toml`, and `crowd.toml` where somebody has to be asked.

    Example:
        >>> sorted(files_for(answers=False, rewards=False)), sorted(files_for(answers=True, rewards=True))
        (['crowd.toml', 'recipe.toml'], ['recipe.toml'])
    """
    if answers and rewards:
        return {"recipe.toml": _HEAD + _SCORED + _SELECT + _RANDOM + _COMPARE + _TRAIN}
    if answers:
        return {"recipe.toml": _HEAD + _POOL + _REWARD + _SELECT + _RANDOM + _COMPARE + _TRAIN}
    if rewards:  # scores alone: nothing to imitate, but prompts to choose
        random = _RANDOM + 'format = "rl"\nreference = "answer"\n'
        return {"recipe.toml": _HEAD + _SCORES + _RL + random + _COMPARE}
    recipe = _HEAD + _COLLECT + _JUDGE + _FOR_STUDENT + _RANDOM + _COMPARE + _TRAIN
    return {"recipe.toml": recipe, "crowd.toml": _CROWD}


@click.command(cls=Command, epilog="Example:  crowdselect init work --answers yes")
@click.argument("folder", metavar="DIR")
@option(
    "--answers",
    type=click.Choice(["yes", "no"]),
    default="no",
    show_default=True,
    help="Have several models answered your instructions already?",
)
@option(
    "--rewards",
    type=click.Choice(["yes", "no"]),
    default="no",
    show_default=True,
    help="Are there scores already?",
)
@overwrite_option
def init(folder: str, *, answers: str, rewards: str, overwrite: bool) -> None:
    """Write a starter recipe for what you have.

    It is a short form of what `crowdselect run --example` prints, with the crowd file that it names.
    """
    from pathlib import Path

    from crowdselect.cli.following import say_next
    from crowdselect.terminal import say, shown_path
    from crowdselect.writing import check_output, made_folder, new_file

    texts = files_for(answers=answers == "yes", rewards=rewards == "yes")
    place = Path(folder)
    with made_folder(place):
        targets = {
            name: check_output(place / name, inputs=[], overwrite=overwrite, folder=False) for name in texts
        }
        for name, target in targets.items():
            with new_file(target) as partial:
                partial.write_text(texts[name], encoding="utf-8")
    say(
        f"written to {shown_path(folder)}: {', '.join(texts)}; put your own file beside, and edit what they name"
    )
    say_next({"see what it would do": [["run", str(place / "recipe.toml"), "--dry-run"]]})
