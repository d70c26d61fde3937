"""Fine-tune a student on chosen rows, with TRL's trainers.

settings     every setting, its default, and the paper's
rows         a folder of `select`, or a training file, to rows: prompt, answer, rejected answer
student      a base model: its configuration, tokenizer and chat template; its weights
tokens       rows to tokens as the trainer sees them: what is too long, what ends an answer
memory       what a step needs, counted
planning     steps, tokens, memory, warnings: `plan`
trainers     settings and rows to a trainer of TRL's
workplace    where an unfinished run lives, and what may go on from it
diary        losses as JSONL while it runs; progress
quiet        libraries that speak only of errors
curve        losses as a picture, and on a terminal
modelcard    the page about the model
job          the whole way: `train`
"""

from crowdselect.train.job import Trained, train
from crowdselect.train.planning import Plan, plan
from crowdselect.train.settings import TrainSettings

__all__ = ["Plan", "TrainSettings", "Trained", "plan", "train"]
