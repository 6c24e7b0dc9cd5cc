"""Second moments of a layer's inputs: what `gptq` knows of them, and what it makes of that for any weight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nvfp4_trt.format import BLOCK

_DAMPING = 0.01
"""Added to the diagonal of H before it is factorized, in units of its mean."""

_RIDGE = 0.3
"""The same for the solution by least squares: it is found on few thousand tokens, and has to hold on others."""

_AGREEING = 0.85
"""Share of the larger pull that the smaller one has to be."""

HALVES = 2
"""Parts of the inputs that are kept apart: what one half teaches is tried on the other."""


class Factors(NamedTuple):
    """What quantizing needs of H = Σ x·xᵀ."""

    columns: Tensor
    """The order of quantizing, int64 `[K]`: whole blocks of 16 columns, those of the largest inputs first."""
    upper: Tensor
    """Upper triangular U with Uᵀ·U = H⁻¹, columns in that order, fp32 `[K, K]`."""


@dataclass
class _Sums:
    """Over rows of inputs, fp64 `[K, K]`, on the inputs' device."""

    inputs: Tensor
    """H = Σ x·xᵀ, x of what the quantized layer sees."""
    crossed: Tensor
    """C = Σ f·xᵀ, where f is what enters the layer in the float model for the same token."""

    def step(self, weight: Tensor) -> Tensor:
        """Return D of `Moments.pulled`, fp32 `[N, K]`: with its ridge the system is well conditioned in fp32."""
        return torch.cholesky_solve((weight @ self._moved).t(), self._lower).t()

    def tried(self, weight: Tensor, step: Tensor) -> tuple[float, float]:
        """Return numerator and denominator of p in `Moments.pulled`, for a step that was found on other rows."""
        agreed = ((weight @ self._moved) * step).sum()
        return float(agreed), float(((step @ self.inputs.float()) * step).sum())

    @cached_property
    def _moved(self) -> Tensor:
        return (self.crossed - self.inputs).float()

    @cached_property
    def _lower(self) -> Tensor:
        lower: Tensor = torch.linalg.cholesky(_with_diagonal(self.inputs, _RIDGE).float())
        return lower


class Agreement:
    """Whether the halves of the data teach the same, by all layers so far.

    One for the layers of a model: a layer says it with noise, and what is asked is a property of the data. Halves
    of one kind find pulls that differ by few percent. Where they differ more than `_AGREEING` says, they are of
    different kinds, and what is quantized later may be of a third.
    """

    def __init__(self) -> None:
        self._smaller = self._larger = 0.0

    def with_layer(self, one: float, other: float) -> bool:
        """Take note of the pulls that a layer's halves find, and return what is to be thought of them."""
        self._smaller += min(one, other)
        self._larger += max(one, other)
        return self._smaller >= _AGREEING * self._larger


class Moments:
    """Sums over rows of a layer's inputs, of two halves of the calibration data.

    Args:
        k: numbers in a row.
        device: of the inputs.
        agreement: of the model; by default this layer is all there is.
    """

    def __init__(self, k: int, device: torch.device, agreement: Agreement | None = None) -> None:
        empty = torch.zeros((HALVES, 2, k, k), dtype=torch.float64, device=device)
        self._halves = tuple(_Sums(*half) for half in empty)
        self._agreement = agreement or Agreement()

    def add(self, seen: Tensor, unquantized: Tensor, half: int) -> None:
        """Count rows `[rows, K]` of the quantized model, and the float model's for the same tokens, in a half."""
        rows, others = seen.float(), unquantized.float()
        sums = self._halves[half]
        sums.inputs.add_(rows.t() @ rows)
        sums.crossed.add_(others.t() @ rows)

    @property
    def inputs(self) -> Tensor:
        """H of all rows, fp64 `[K, K]`; to be asked for when all have been added."""
        return self._whole.inputs

    @property
    def crossed(self) -> Tensor:
        """C of all rows, fp64 `[K, K]`; to be asked for when all have been added."""
        return self._whole.crossed

    def pulled(self, weight: Tensor) -> Tensor:
        """Return the weight, fp32 `[N, K]`, nearer to what gives the float layer's outputs from the inputs seen.

        All of the way is `W + D` with `D = W · (C - H) · (H + r)⁻¹`, least squares with r on the diagonal. How
        much of it holds on other data than it was found on differs from layer to layer, and may be nothing. On the
        sums H', C' of a half that took no part in D, `W + p·D` errs least, squared, where
        `p = tr(W · (C' - H') · Dᵀ) / tr(D · H' · Dᵀ)`; the p of both halves together is taken, from 0 to 1. Where
        the halves do not agree (`Agreement`), the weight stays.
        """
        start = weight.float()
        first, second = self._halves
        halves = [other.tried(start, one.step(start)) for one, other in ((first, second), (second, first))]
        if not self._agreement.with_layer(*(_pull(*each) for each in halves)):
            return start
        return start + self._whole.step(start) * _pull(*map(sum, zip(*halves, strict=True)))

    @cached_property
    def factors(self) -> Factors:
        """The order of columns and the factor of H⁻¹, once for all layers that read the same tensor."""
        hessian = _with_diagonal(self.inputs, _DAMPING)
        blocks = hessian.diagonal().view(-1, BLOCK).sum(dim=1)
        order = torch.argsort(blocks, descending=True, stable=True)
        columns = (order.unsqueeze(1) * BLOCK + torch.arange(BLOCK, device=order.device)).flatten()
        # H = R·Rᵀ with R upper triangular is the factorization from the last row up; then U = R⁻¹.
        last_first = torch.linalg.cholesky(hessian[columns][:, columns].flip(0, 1)).flip(0, 1)
        identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        return Factors(columns, torch.linalg.solve_triangular(last_first, identity, upper=True).float())

    @cached_property
    def _whole(self) -> _Sums:
        first, second = self._halves
        return _Sums(first.inputs + second.inputs, first.crossed + second.crossed)


def _pull(agreed: float, bent: float) -> float:
    return min(max(agreed / bent, 0.0), 1.0) if bent > 0 else 0.0


def _with_diagonal(matrix: Tensor, share: float) -> Tensor:
    """Return a matrix with a share of its diagonal's mean added to that; of 1 where the matrix is 0."""
    mean = matrix.diagonal().mean()
    made: Tensor = matrix.clone()
    made.diagonal().add_(torch.where(mean > 0, mean, 1.0) * share)
    return made
