"""A decoder-only transformer, several copies in a stack; greedy answers, and exact match in one forward pass.

For models this small, calls cost more than arithmetic, so G of one size are trained as one stack: every weight has a
first axis G, and the copies never interact.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from proving_ground.items import Shape
from proving_ground.tokens import ANSWERING, END, VOCABULARY

_PASS = 1024  # rows of a forward pass without gradients
_HEAD = 16  # dimensions of an attention head
_NO_TARGET = -100
Past = list[list[Tensor]]
"""Keys and values of earlier tokens, per layer."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a model."""

    width: int
    layers: int


class Linear(nn.Module):
    """Compute x W + b for each copy."""

    def __init__(self, copies: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(copies, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (G, rows, inputs) to (G, rows, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class Block(nn.Module):
    """Attention and a feed-forward layer, each with a pre-norm and a residual connection."""

    def __init__(self, copies: int, width: int) -> None:
        super().__init__()
        self.qkv, self.join = Linear(copies, width, 3 * width), Linear(copies, width, width)
        self.up, self.down = Linear(copies, width, 4 * width), Linear(copies, 4 * width, width)

    def forward(self, x: Tensor, rows: int, past: list[Tensor] | None) -> Tensor:
        """Shape (G, B T, width) in and out; B = `rows`. `past` holds earlier tokens; new ones are appended to it."""
        copies, places, width = x.shape
        split = (copies * rows, places // rows, 3, width // _HEAD, _HEAD)
        q, k, v = self.qkv(_norm(x)).view(split).permute(2, 0, 3, 1, 4)
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
            past[:] = [k, v]
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        x = x + self.join(seen.transpose(1, 2).reshape(x.shape))
        return x + self.down(functional.relu(self.up(_norm(x))))


class Transformer(nn.Module):
    """A stack of G models that read prompt and answer as one row of tokens; see `tokens.Shape` for the layout."""

    def __init__(self, size: Size, shape: Shape, *, copies: int) -> None:
        super().__init__()
        self.size, self.shape, self.copies = size, shape, copies
        self.tokens = nn.Parameter(torch.empty(copies, len(VOCABULARY), size.width))
        self.places = nn.Parameter(torch.empty(copies, 1, shape.total, size.width))
        self.blocks = nn.ModuleList(Block(copies, size.width) for _ in range(size.layers))

    def forward(self, tokens: Tensor, *, begin: int = 0, past: Past | None = None) -> Tensor:
        """Logits (G, B, T - begin, `ANSWERING`) of the token after each, from place `begin` on, of tokens (G, B, T)."""
        copies, rows, length = tokens.shape
        at = past[0][0].shape[2] if past and past[0] else 0
        own = tokens + len(VOCABULARY) * torch.arange(copies)[:, None, None]
        x = functional.embedding(own, self.tokens.flatten(0, 1)) + self.places[:, :, at : at + length]
        x = x.flatten(1, 2)
        for i, block in enumerate(self.blocks):
            x = block(x, rows, None if past is None else past[i])
        x = _norm(x).view(copies, rows, length, -1)[:, :, begin:].flatten(1, 2)
        return (x @ self.tokens[:, :ANSWERING].transpose(1, 2)).view(copies, rows, length - begin, ANSWERING)

    def answer_logits(self, rows: Tensor) -> Tensor:
        """Logits (G, B, answer, `ANSWERING`) of every answer token, given the tokens before it in the row."""
        return self(rows[..., :-1], begin=self.shape.prompt - 1)

    @property
    def parameters_each(self) -> int:
        """Return the number of parameters of one copy."""
        return sum(p.numel() for p in self.parameters()) // self.copies

    def repeated(self, copies: int) -> "Transformer":
        """Return a stack of equal copies of a stack of one."""
        stack = Transformer(self.size, self.shape, copies=copies)
        weights = {name: w.expand(copies, *w.shape[1:]).clone() for name, w in self.state_dict().items()}
        stack.load_state_dict(weights)
        return stack


def _norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def build(size: Size, shape: Shape, *, seeds: Sequence[int]) -> Transformer:
    """Build a stack, with each copy's weights initialised from its own seed."""
    model = Transformer(size, shape, copies=len(seeds))
    with torch.no_grad():
        for copy, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for name, weights in model.named_parameters():
                if name in {"tokens", "places"}:
                    weights[copy].normal_(std=0.08, generator=generator)
                elif name.endswith("weight"):
                    bound = 1 / math.sqrt(weights.shape[1])
                    weights[copy].uniform_(-bound, bound, generator=generator)
    return model


def greedy(model: Transformer, prompts: Tensor) -> Tensor:
    """Decode the likeliest answers: (G, N, answer) for prompts (N, prompt). After an END all tokens are END."""
    return _decoded(model, prompts, lambda logits: logits.argmax(-1))


def sampled(model: Transformer, prompts: Tensor, *, seed: int) -> Tensor:
    """Draw an answer to each prompt at temperature 1; shapes as in `greedy`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        flat = torch.multinomial(logits.softmax(-1).flatten(0, 2), 1, generator=generator)
        return flat.view(logits.shape[:-1])

    return _decoded(model, prompts, draw)


@torch.inference_mode()
def _decoded(model: Transformer, prompts: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    out = []
    for rows in prompts.split(_PASS):
        past: Past = [[] for _ in model.blocks]
        token = pick(model(rows.expand(model.copies, -1, -1), begin=model.shape.prompt - 1, past=past))
        taken = [token]
        for _ in range(model.shape.answer - 1):
            token = pick(model(token, past=past))
            taken.append(token)
        answers = torch.cat(taken, dim=2)
        out.append(torch.where((answers == END).cumsum(2) > 0, END, answers))
    return torch.cat(out, dim=1)


@torch.inference_mode()
def judged(model: Transformer, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows (N, total) each model would answer exactly, (G, N), and its mean loss per answer token, nats (G,).

    One pass instead of a decoding loop: greedy decoding finds the right answer if and only if every token is the
    likeliest given the right ones before it.
    """
    right, losses, count = [], torch.zeros(model.copies, dtype=torch.float64), 0
    for part in rows.split(_PASS):
        wanted = targets(part, model.shape).expand(model.copies, -1, -1)
        logits = model.answer_logits(part.expand(model.copies, -1, -1))
        meant = wanted != _NO_TARGET
        right.append(((logits.argmax(-1) == wanted) | ~meant).all(2))
        losses += token_losses(logits, wanted).double().sum((1, 2))
        count += int(meant[0].sum())
    return torch.cat(right, dim=1), losses / count


@torch.inference_mode()
def answer_likelihoods(model: Transformer, rows: Tensor) -> Tensor:
    """Return the mean log-likelihood of each row's answer tokens, its END among them, under each model, nats (G, N)."""
    found = []
    for part in rows.split(_PASS):
        wanted = targets(part, model.shape).expand(model.copies, -1, -1)
        losses = token_losses(model.answer_logits(part.expand(model.copies, -1, -1)), wanted)
        found.append(-losses.double().sum(2) / (wanted != _NO_TARGET).sum(2))
    return torch.cat(found, dim=1)


def token_losses(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross entropy of every answer token, 0 for ignored ones; shape of `wanted`."""
    flat = functional.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none")
    return flat.view(wanted.shape)


def targets(rows: Tensor, shape: Shape) -> Tensor:
    """Return the answer tokens up to the first END, -100 after it, for loss and exact match, (..., answer)."""
    answer = rows[..., shape.prompt :]
    after = (answer == END).cumsum(-1) - (answer == END).long() > 0
    return answer.masked_fill(after, _NO_TARGET)
