"""The task: handwritten digits under noise, a small network, one way to train it and one to measure it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, CLASSES = 8, 10
PIXELS = SIDE * SIDE
WIDTH, HIDDEN_LAYERS = 32, 4
NOISE = 0.05
"""Standard deviation of the noise on pixels, which are 0 to 1: small networks have to learn to look past it."""
TRAINING_IMAGES = 1000
BATCH, LEARNING_RATE = 64, 3e-3
_VIEWS = 4  # of each held-out image, each under noise of its own


@dataclass(frozen=True)
class Score:
    """How well a model does on the held-out images."""

    loss: float
    """Cross-entropy, in nats."""
    accuracy: float
    """Share of right answers."""


@dataclass(frozen=True)
class Images:
    """Some of the images: pixels fp32 `[images, 64]`, digits int64 `[images]`."""

    pixels: Tensor
    digits: Tensor


def images() -> tuple[Images, Images]:
    """Return scikit-learn's 1,797 images, shuffled once: those to train on, and those held out."""
    pixels, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    parts = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    training, held_out = (Images(pixels[part].float() / 16, digits[part]) for part in parts)
    return training, held_out


def network(seed: int = 0) -> nn.Sequential:
    """Return a network with fresh weights: small enough for FP4 to cost it something on this task."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(PIXELS, WIDTH), nn.ReLU()]
    for _ in range(HIDDEN_LAYERS - 1):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def train(model: nn.Module, training: Images, steps: int, seed: int) -> None:
    """Train a model, prepared for quantization or not: the same batches for the same seed.

    Args:
        model: images `[batch, 64]` to logits `[batch, 10]`; left in evaluation mode.
        training: what batches are drawn from, each moved by up to a pixel and put under noise.
        steps: how many batches; the learning rate rises and falls once over all of them.
        seed: of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(0, len(training.pixels), (BATCH,), generator=generator)
        shown = noisy(_moved(training.pixels[chosen], generator), generator)
        loss = F.cross_entropy(model(shown), training.digits[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def noisy(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return images under noise."""
    return pixels + NOISE * torch.randn(pixels.shape, generator=generator)


def score(run: Callable[[Tensor], Tensor], held_out: Images) -> Score:
    """Measure a model on the held-out images, four times each; the same noise for every model.

    Args:
        run: images `[batch, 64]` to logits `[batch, 10]`.
        held_out: images that no training saw.
    """
    shown = noisy(held_out.pixels.repeat(_VIEWS, 1), torch.Generator().manual_seed(99))
    digits = held_out.digits.repeat(_VIEWS)
    with torch.no_grad():
        logits = run(shown)
    right = (logits.argmax(dim=1) == digits).float().mean()
    return Score(F.cross_entropy(logits, digits).item(), right.item())


def _moved(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return a batch moved by up to one pixel up or down, and left or right."""
    padded = F.pad(pixels.view(-1, SIDE, SIDE), (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2,), generator=generator).tolist()
    return padded[:, down : down + SIDE, right : right + SIDE].reshape(-1, PIXELS)
