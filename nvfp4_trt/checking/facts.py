"""What is known of one layer before anything is built: all that a rule may look at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvfp4_trt.layers import MIN_K
from nvfp4_trt.portable import BLOCK

Extent = int | str
"""A dimension: its extent, its name where it is dynamic, or `?`."""


@dataclass(frozen=True)
class Codes:
    """The NVFP4 codes that an operand is dequantized from."""

    portable: bool
    """Made by `nvfp4` operators, whose ranks and run-time scales the lowering takes care of."""
    along_k: bool = True
    """Whether a block of 16 codes lies along the dimension that the product sums over."""
    two_level: bool = True
    """Whether the block scales are e4m3, dequantized by a per-tensor scale, and not themselves floats."""
    run_time_scale: bool = False
    """Whether the per-tensor scale is computed at run time."""
    operator: bool = False
    """Whether TensorRT's own quantizer, `TRT_FP4DynamicQuantize`, makes them."""
    rank: int | None = None
    """Rank of the tensor at the quantizer."""
    block: int = BLOCK
    """Block size that the quantizer asks for."""


@dataclass(frozen=True)
class Operand:
    """One side of a product."""

    constant: bool
    """Whether it is a weight: in the file, or computed from what is."""
    dtype: str
    """Element type that it is stored in, in front of any dequantizer; `?` where it is not known."""
    shape: tuple[Extent, ...] | None = None
    """As the product reads it."""
    codes: Codes | None = None
    between: str = ""
    """What stands between the dequantizer and the product, other than a change of layout or dtype."""
    quantizer: str = ""
    """A quantizing operator that TensorRT does not know."""

    @property
    def elements(self) -> int | None:
        """Number of its elements; None where a dimension is not known."""
        extents = [extent for extent in self.shape or () if isinstance(extent, int)]
        return math.prod(extents) if self.shape is not None and len(extents) == len(self.shape) else None


@dataclass(frozen=True)
class Window:
    """How a convolution reads its input; one number for each spatial dimension."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padded: bool
    groups: int
    transposed: bool

    @property
    def pointwise(self) -> bool:
        """Whether it is a linear layer over the channels of each position."""
        return self._plain and math.prod(self.kernel) == 1 and math.prod(self.strides) == 1

    @property
    def patches(self) -> bool:
        """Whether its windows tile the input, as those of a patch embedding."""
        return self._plain and self.kernel == self.strides and math.prod(self.dilations) == 1

    @property
    def _plain(self) -> bool:
        return self.groups == 1 and not self.padded and not self.transposed


@dataclass(frozen=True)
class Facts:
    """One linear layer, product or convolution."""

    name: str
    kind: str
    """Operator or class of the module."""
    shape: tuple[Extent, ...]
    """`(N, K)` of a layer with one matrix; of others, the shape of the weight or second operand."""
    dtype: str
    """Element type that it is computed in where nothing is quantized."""
    node: str = ""
    """Name of the ONNX node; empty for a module."""
    domain: str = ""
    n: int | None = None
    k: int | None = None
    """Columns of the result, and the extent that is summed over; of a convolution, those of its matrix form."""
    left: Operand | None = None
    right: Operand | None = None
    window: Window | None = None
    hidden: bool = False
    """Whether its products are inside one operator, so that no quantizer reaches them."""
    integer: bool = False
    """Whether it is an operator on integers."""
    quantized_file: bool = False
    """Whether the file has NVFP4 codes anywhere: what has none then stays as it is."""
    told: str = ""
    """Why the exporter leaves it as it is, where it said so."""
    empty: bool = False
    """Whether a dimension is 0."""
    is_output: bool = False
    """Whether its result is an output of the model, past additions and changes of layout."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The sides that are known."""
        return tuple(side for side in (self.left, self.right) if side is not None)

    @property
    def codes(self) -> tuple[Codes, ...]:
        """The NVFP4 codes on either side."""
        return tuple(side.codes for side in self.operands if side.codes is not None)

    @property
    def one_matrix(self) -> bool:
        """Whether the second operand is a weight of rank 2 or less."""
        return self.right is not None and self.right.constant and _rank(self.right.shape) <= 2  # noqa: PLR2004

    @property
    def padded_k(self) -> int:
        """The nearest K above that is FP4."""
        return max(MIN_K, -(-(self.k or 0) // BLOCK) * BLOCK)

    def words(self) -> dict[str, object]:
        """Return what the sentences of a rule may name."""
        between = next((side.between for side in self.operands if side.between), "")
        codes = self.codes
        return {
            "name": self.name,
            "n": self.n,
            "k": self.k,
            "padded_k": self.padded_k,
            "even_n": (self.n or 0) + 1,
            "kind": self.kind,
            "domain": self.domain,
            "dtype": self.dtype,
            "stored": " and ".join(dict.fromkeys(side.dtype for side in self.operands)),
            "between": between,
            "quantizer": next((side.quantizer for side in self.operands if side.quantizer), ""),
            "rank": next((c.rank for c in codes if c.rank is not None), "?"),
            "block": next((c.block for c in codes if c.block != BLOCK), BLOCK),
            "weights": f"{(self.n or 0) * (self.k or 0):,}",
            "told": self.told,
            "then": "" if self.k == self.padded_k else f", K padded from {self.k} to {self.padded_k}",
        }


def _rank(shape: tuple[Extent, ...] | None) -> int:
    """Return the rank without leading dimensions of 1; 2 where the shape is not known."""
    if shape is None:
        return 2
    lead = 0
    while lead < len(shape) - 2 and shape[lead] == 1:
        lead += 1
    return len(shape) - lead
