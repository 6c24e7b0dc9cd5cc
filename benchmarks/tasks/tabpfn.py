"""TabPFN 0.1, a transformer of 74 linears that classifies tables in context, in its source archive (MIT).

The package's own code needs a dozen others, so the network is written out here: it is PyTorch's post-norm encoder
layer, in which every row attends to the labelled rows only. What enters is prepared as the package does.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from samples.archives import TABPFN, fetch
from tasks.task import Batch, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

INSIDE = "tabpfn-0.1/tabpfn/models_diff/prior_diff_real_checkpoint_n_0_epoch_42.cpkt"
WIDTH, HEADS, LAYERS, HIDDEN, FEATURES, CLASSES = 512, 4, 12, 1024, 100, 10
CONTEXT, QUERIES = 96, 160
"""Labelled rows at most, and rows to classify at most."""


class Problem(NamedTuple):
    """A table: what goes in, and the classes of the rows that are asked for."""

    batch: Batch
    answers: Tensor


def make() -> Task:
    """Return the network; it is calibrated on flowers, wines and digits 0 to 4, and measured on others."""
    digits = _table("digits")
    calibration = [
        *(_problem(*_table("iris"), seed) for seed in range(2)),
        *(_problem(*_table("wine"), seed) for seed in range(2)),
        *(_problem(*_classes(*digits, range(5)), seed) for seed in range(2)),
    ]
    held_out = [
        *(_problem(*_table("breast_cancer"), seed) for seed in range(2)),
        *(_problem(*_classes(*digits, range(5, 10)), seed) for seed in range(2)),
    ]

    def accuracy(outputs: list[Tensor]) -> float:
        right = [
            logits.argmax(dim=-1) == problem.answers for logits, problem in zip(outputs, held_out, strict=True)
        ]
        return float(torch.cat(right).float().mean())

    return Task(
        name="tabpfn",
        about=f"tables in context, {sum(len(problem.answers) for problem in held_out)} rows",
        module=_weights_into(TabPfn()),
        calibration=tuple(problem.batch for problem in calibration),
        held_out=tuple(problem.batch for problem in held_out),
        read=lambda output, batch: cast("Tensor", output)[0, :, : int(batch["y"].max()) + 1],
        metric="accuracy",
        score=accuracy,
    )


class TabPfn(nn.Module):
    """The network: rows with their labels, then rows without."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, WIDTH)
        self.y_encoder = nn.Linear(1, WIDTH)
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))
        self.decoder = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, CLASSES))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return logits `[batch, queries, 10]` of rows `x` `[batch, rows, 100]`, the first n labelled `y`."""
        labelled = y.shape[1]
        hidden = self.encoder(x)
        hidden = torch.cat([hidden[:, :labelled] + self.y_encoder(y[..., None]), hidden[:, labelled:]], dim=1)
        for layer in self.layers:
            hidden = layer(hidden, labelled)
        logits: Tensor = self.decoder(hidden[:, labelled:])
        return logits


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.linear1, self.linear2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, hidden: Tensor, labelled: int) -> Tensor:
        context = hidden[:, :labelled]
        q, k, v = (
            _heads(project(rows))
            for project, rows in ((self.q_proj, hidden), (self.k_proj, context), (self.v_proj, context))
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        hidden = self.norm1(hidden + self.out_proj(mixed))
        normed: Tensor = self.norm2(hidden + self.linear2(F.gelu(self.linear1(hidden))))
        return normed


def _heads(rows: Tensor) -> Tensor:
    return rows.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def _weights_into(network: TabPfn) -> TabPfn:
    with tarfile.open(fetch(TABPFN)) as archive:
        held = torch.load(archive.extractfile(INSIDE), map_location="cpu", weights_only=True)[0]
    named = {name.removeprefix("module.").removeprefix("transformer_encoder."): t for name, t in held.items()}
    del named["criterion.weight"]
    for name in [name for name in named if ".self_attn." in name]:
        tensor, (layer, kind) = named.pop(name), name.split(".self_attn.")
        if kind.startswith("out_proj"):
            named[f"{layer}.{kind}"] = tensor
        else:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            named |= {f"{layer}.{letter}_proj.{kind.removeprefix('in_proj_')}": part for letter, part in parts}
    network.load_state_dict(named)
    return network


def _table(name: str) -> tuple[Tensor, Tensor]:
    """Return a table of scikit-learn's: values `[rows, features]` and classes `[rows]`."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    return torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)


def _classes(x: Tensor, y: Tensor, kept: Sequence[int]) -> tuple[Tensor, Tensor]:
    rows = torch.isin(y, torch.tensor(kept))
    return x[rows], y[rows] - kept[0]


def _problem(x: Tensor, y: Tensor, seed: int) -> Problem:
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    labelled = min(CONTEXT, len(y) // 2)
    rows = order[: labelled + QUERIES]
    prepared = _prepared(x[rows], labelled)
    batch = {"x": prepared[None], "y": y[rows[:labelled]].float()[None]}
    return Problem(batch, y[rows[labelled:]])


def _prepared(x: Tensor, labelled: int) -> Tensor:
    """Normalize by the labelled rows, draw outliers in, and scale up by the share of features that there are."""
    context = x[:labelled]
    x = ((x - context.mean(dim=0)) / (context.std(dim=0) + 1e-6)).clip(-100, 100)
    x = x[:, x.std(dim=0) > 0]
    context = x[:labelled]
    centre, spread = context.mean(dim=0), 4 * context.std(dim=0)
    inside = (context - centre).abs() <= spread
    count = inside.sum(dim=0)
    centre = (context * inside).sum(dim=0) / count
    spread = 4 * (((context - centre) * inside).square().sum(dim=0) / (count - 1)).sqrt()
    x = torch.maximum(-torch.log1p(x.abs()) + centre - spread, x)
    x = torch.minimum(torch.log1p(x.abs()) + centre + spread, x)
    return F.pad(x * FEATURES / x.shape[1], (0, FEATURES - x.shape[1]))
