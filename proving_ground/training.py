"""Training, the same for crowd members, bases and students."""

from dataclasses import dataclass

import torch
from torch import Tensor

from proving_ground.model import Transformer, targets, token_losses

_WARM = 0.05  # share of the training with a rising learning rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Length and learning rate of a training; the length is a number of steps or, if given, of answer tokens."""

    steps: int
    batch: int
    rate: float
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """Counts of a training."""

    steps: int
    tokens: tuple[int, ...]
    """Answer tokens that each copy was trained on, counting repetitions."""


def train(model: Transformer, rows: Tensor, recipe: Recipe, *, seed: int) -> Trained:
    """Train a stack of models on the answers in some rows, in place; each copy as if it were alone.

    Args:
        model: G copies; their weights change.
        rows: Prompts and answers, shape (G, N, total): each copy has its own rows, in the same order.
        recipe: Length and learning rate. With a token budget only one copy can be trained. Batches are full; an
            epoch's remainder goes into the next.
        seed: Seed of the order of rows.
    """
    if recipe.tokens is not None and model.copies > 1:
        raise ValueError(
            "copies with answers of other lengths reach a number of tokens at other steps; train one"
        )
    wanted = targets(rows, model.shape)
    counts = (wanted >= 0).sum(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), fused=True)
    order, generator = torch.empty(0, dtype=torch.long), torch.Generator().manual_seed(seed)
    steps, learnt = 0, torch.zeros(model.copies, dtype=torch.long)
    while (done := _done(recipe, steps, int(learnt[0]))) < 1:
        while len(order) < recipe.batch:
            order = torch.cat([order, torch.randperm(rows.shape[1], generator=generator)])
        at, order = order[: recipe.batch], order[recipe.batch :]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min((done + 1e-3) / _WARM, (1 - done) / (1 - _WARM))
        count = counts[:, at].sum(1)
        losses = token_losses(model.answer_logits(rows[:, at]), wanted[:, at]).sum((1, 2)) / count
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        steps += 1
        learnt += count
    return Trained(steps, tuple(learnt.tolist()))


def _done(recipe: Recipe, steps: int, learnt: int) -> float:
    return steps / recipe.steps if recipe.tokens is None else learnt / recipe.tokens
