"""Second moments of a layer's inputs: what `gptq` knows of them, and what it makes of that for any weight."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nvfp4_trt.format import BLOCK

_DAMPING = 0.01
"""Added to the diagonal of H before it is factorized, in units of its mean."""

_RIDGE = 1.0
"""The same for the solution by least squares: it is found on few thousand tokens, and has to hold on others."""


class Factors(NamedTuple):
    """What quantizing needs of H = Σ x·xᵀ."""

    columns: Tensor
    """The order of quantizing, int64 `[K]`: whole blocks of 16 columns, those of the largest inputs first."""
    upper: Tensor
    """Upper triangular U with Uᵀ·U = H⁻¹, columns in that order, fp32 `[K, K]`."""


class Moments:
    """Sums over rows of inputs, fp64 `[K, K]`, on the inputs' device.

    `inputs` is H = Σ x·xᵀ of the rows that the quantized layer sees; `crossed` is Σ f·xᵀ, where f is what enters
    the layer in the float model for the same token.
    """

    def __init__(self, k: int, device: torch.device) -> None:
        self.inputs = torch.zeros((k, k), dtype=torch.float64, device=device)
        self.crossed = torch.zeros_like(self.inputs)

    def add(self, seen: Tensor, unquantized: Tensor) -> None:
        """Count rows `[rows, K]` of the quantized model, and the float model's for the same tokens."""
        rows, others = seen.float(), unquantized.float()
        self.inputs += rows.t() @ rows
        self.crossed += others.t() @ rows

    def least_squares(self, weight: Tensor) -> Tensor:
        """Return the weight fp64 `[N, K]` that gives, from the inputs seen, nearest the float layer's outputs.

        It is `W · (Σ f·xᵀ + r) · (H + r)⁻¹`, r on the diagonal: the more ridge, the nearer to W itself.
        """
        ridge = _RIDGE * self._mean
        target = self._with_diagonal(self.crossed, ridge)
        return torch.cholesky_solve((weight.double() @ target).t(), self._ridged).t()

    @cached_property
    def factors(self) -> Factors:
        """The order of columns and the factor of H⁻¹, once for all layers that read the same tensor."""
        hessian = self._with_diagonal(self.inputs, _DAMPING * self._mean)
        blocks = hessian.diagonal().view(-1, BLOCK).sum(dim=1)
        order = torch.argsort(blocks, descending=True, stable=True)
        columns = (order.unsqueeze(1) * BLOCK + torch.arange(BLOCK, device=order.device)).flatten()
        # H = R·Rᵀ with R upper triangular is the factorization from the last row up; then U = R⁻¹.
        last_first = torch.linalg.cholesky(hessian[columns][:, columns].flip(0, 1)).flip(0, 1)
        identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        return Factors(columns, torch.linalg.solve_triangular(last_first, identity, upper=True).float())

    @cached_property
    def _ridged(self) -> Tensor:
        lower: Tensor = torch.linalg.cholesky(self._with_diagonal(self.inputs, _RIDGE * self._mean))
        return lower

    @cached_property
    def _mean(self) -> Tensor:
        """The mean of H's diagonal; 1 where no input was anything but 0."""
        mean = self.inputs.diagonal().mean()
        return torch.where(mean > 0, mean, 1.0)

    @staticmethod
    def _with_diagonal(matrix: Tensor, added: Tensor) -> Tensor:
        made: Tensor = matrix.clone()
        made.diagonal().add_(added)
        return made
