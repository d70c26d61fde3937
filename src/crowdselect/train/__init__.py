"""Fine-tune a student on chosen rows, with TRL's trainers.

settings     every setting, its default, and the paper's
rows         rows from a folder of `select` or a training file: prompt, answer, rejected answer; and their tokens
student      a base model: its configuration, tokenizer and chat template; its weights
planning     steps, tokens, memory, warnings
trainers     a TRL trainer from settings and rows, and its run
workplace    the working folder of an unfinished run, and which runs may resume from it
diary        losses: as JSONL during the run, as a plot, and on a terminal
job          a whole run: `plan`, `train`; the finished model's folder, with its model card
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crowdselect.train.job import Trained, plan, train
    from crowdselect.train.planning import TrainPlan
    from crowdselect.train.settings import TrainSettings

_HOMES = {
    "TrainPlan": "planning",
    "TrainSettings": "settings",
    "Trained": "job",
    "plan": "job",
    "train": "job",
}

__all__ = ["TrainPlan", "TrainSettings", "Trained", "plan", "train"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (functions and classes)
    """Import a name when it is first used: the command's help needs none of them."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'crowdselect.train' has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(import_module(f"crowdselect.train.{_HOMES[name]}"), name)
