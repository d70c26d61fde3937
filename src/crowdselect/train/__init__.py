"""Fine-tune a student on chosen rows, with TRL's trainers.

settings     every setting, its default, and the paper's
rows         a folder of `select`, or a training file, to rows: prompt, answer, rejected answer; and to tokens
student      a base model: its configuration, tokenizer and chat template; its weights
planning     steps, tokens, memory, warnings
trainers     settings and rows to a trainer of TRL's, and its run
workplace    where an unfinished run lives, and what may go on from it
diary        losses: as JSONL while it runs, as a picture, and on a terminal
job          the whole way: `plan`, `train`; the finished model's folder, with the page about it
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
    """Load a name when it is first used: the command's help needs none of them."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'crowdselect.train' has no attribute {name!r}; it has: {', '.join(__all__)}"
        )
    return getattr(import_module(f"crowdselect.train.{_HOMES[name]}"), name)
