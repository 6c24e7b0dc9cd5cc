"""Inputs of the GEMM with their exact results, for the interpreter and for a GPU alike."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from nvfp4_trt.format.codec import dequantize
from nvfp4_trt.format.swizzle import swizzle_scales

TORCH = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
# The most that one rounding to the dtype changes a number, relative and near zero.
ROUNDING = {"f16": (2.0**-11, 2.0**-25), "bf16": (2.0**-8, 2.0**-134), "f32": (2.0**-24, 2.0**-150)}
NAN_SCALE = 0x7F
GUARD = 64  # elements after each output that must stay as they were


class Case(NamedTuple):
    m: int
    n: int
    k: int
    tile: str
    dtype: str = "bf16"
    split_k: int = 1
    alpha_by_row: bool = False
    beta_by_column: bool = False
    has_bias: bool = False
    nan: bool = False
    like: int = 90  # the architecture whose form of the tile is run

    @property
    def name(self) -> str:
        flags = [flag for flag in ("alpha_by_row", "beta_by_column", "has_bias", "nan") if getattr(self, flag)]
        parts = [f"{self.m}x{self.n}x{self.k}", self.tile, self.dtype, f"split{self.split_k}", *flags]
        return "-".join([*parts, *([f"sm_{self.like}"] if self.like != 90 else [])])


class Problem(NamedTuple):
    a: torch.Tensor  # uint8 [M, K/2]
    b: torch.Tensor  # uint8 [N, K/2]
    a_scales: torch.Tensor  # uint8, in tiles
    b_scales: torch.Tensor
    alpha: torch.Tensor  # fp32 [1] or [M]
    beta: torch.Tensor  # fp32 [1] or [N]
    bias: torch.Tensor  # [N] of the output's dtype
    exact: np.ndarray  # fp64 [M, N], before the output is rounded
    bound: np.ndarray  # fp64 [M, N]: the most that the output may be off


def make(case: Case) -> Problem:
    """Make the operands: every code, and every scale byte from 2^-6 to 28 with both ends' neighbours."""
    random = torch.Generator().manual_seed(case.m * 1_000_003 + case.n * 1009 + case.k)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=random, dtype=torch.uint8)

    a, b = (integers(0, 256, rows, case.k // 2) for rows in (case.m, case.n))
    scales = [integers(0x08, 0x5F, rows, case.k // 16) for rows in (case.m, case.n)]
    for each in scales:  # zero, the smallest and the largest, wherever there is room for them
        each.view(-1)[: 3 * (each.numel() // 8) : 3] = torch.tensor(0x01, dtype=torch.uint8)
        each.view(-1)[1 :: max(2, each.numel() // 3)] = 0x7E
        each.view(-1)[-1] = 0
    if case.nan:
        scales[0][case.m // 2, -1] = NAN_SCALE
        scales[1][case.n // 3, 0] = NAN_SCALE
    level = 2.0**-10 / case.k**0.5
    alpha = torch.rand(case.m if case.alpha_by_row else 1, generator=random) * level + level / 8
    beta = torch.rand(case.n if case.beta_by_column else 1, generator=random) + 0.1
    bias = torch.randn(case.n, generator=random).to(TORCH[case.dtype])
    wide_a, wide_b = (
        dequantize(codes, each.view(torch.float8_e4m3fn), None, torch.float32).double().numpy()
        for codes, each in zip((a, b), scales, strict=True)
    )
    factor = alpha.double().numpy()[:, None] * beta.double().numpy()[None, :]
    added = bias.double().numpy() * case.has_bias
    exact = wide_a @ wide_b.T * factor + added
    reach = np.abs(wide_a) @ np.abs(wide_b).T * factor + np.abs(added)
    # fp32 sums, in any order and cut off instead of rounded, then the output's one rounding.
    relative, absolute = ROUNDING[case.dtype]
    bound = reach * (case.k / 16 + 8) * 2.0**-24 + np.abs(exact) * relative + absolute
    tiles = [swizzle_scales(each).reshape(-1) for each in scales]
    return Problem(a, b, *tiles, alpha, beta, bias, exact, bound)


def outputs(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return poisoned `out` and `partials`, each with a guard behind it, and zeroed counters.

    The poison is 777: no result comes near it, so that an element left unwritten is off by far.
    """
    out = torch.full((case.m * case.n + GUARD,), 777.0, dtype=TORCH[case.dtype])
    partials = torch.full((case.split_k * case.m * case.n * (case.split_k > 1) + GUARD,), 777.0)
    return out, partials, torch.zeros(8192, dtype=torch.int32)


def check(
    case: Case, problem: Problem, out: torch.Tensor, partials: torch.Tensor, counters: torch.Tensor
) -> float:
    """Return the largest error as a fraction of what is allowed, having checked all else.

    Args:
        case: what was run.
        problem: its inputs.
        out: `outputs(case)[0]` after the run, on the CPU.
        partials: `outputs(case)[1]` after the run.
        counters: `outputs(case)[2]` after the run.
    """
    for buffer in (out, partials):
        assert bool((buffer[-GUARD:].float() == torch.tensor(777.0, dtype=buffer.dtype).float()).all())
    assert not counters.any(), "a counter was not left at zero"
    got = out[:-GUARD].double().reshape(case.m, case.n).numpy()
    assert np.array_equal(np.isnan(got), np.isnan(problem.exact)), "NaN in other places than expected"
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(got - problem.exact) / problem.bound, initial=0.0))


def small_cases(tiles: list[str]) -> Iterator[Case]:
    """Yield cases for the interpreter: each tile with odd shapes, splits, and each form of the epilogue."""
    for tile in tiles:
        yield Case(1, 8, 32, tile)
        yield Case(7, 24, 96, tile, "f16", 3, alpha_by_row=True, has_bias=True)
        rows = min(200, 3 * int(tile.split("x")[0]) - 8)  # not far beyond a tile: the interpreter is slow
        yield Case(rows, 136, 544, tile, "f32", 3, beta_by_column=True, has_bias=True)
        yield Case(7, 136, 544, tile, "bf16", alpha_by_row=True, beta_by_column=True, has_bias=True)
        yield Case(40, 24, 544, tile, "f32", 2, nan=True)


def gpu_cases(tiles: list[str]) -> Iterator[Case]:
    """Yield cases for a GPU: the small ones, and shapes of linears of both kinds, decode and prefill."""
    yield from small_cases(tiles)
    for tile in tiles:
        for dtype in TORCH:
            yield Case(16, 4096, 4096, tile, dtype, 8, alpha_by_row=True)
            yield Case(1000, 1000, 992, tile, dtype, 1, alpha_by_row=True, has_bias=True)
            yield Case(257, 3072, 768, tile, dtype, 2, beta_by_column=True)
        yield Case(1, 14336, 4096, tile, "bf16", 4)


def in_form_of(sm: int, cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the same cases for the tiles' form on another architecture."""
    for case in cases:
        yield case._replace(like=sm)
