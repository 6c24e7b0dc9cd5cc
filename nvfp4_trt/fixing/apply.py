"""Find the layers that a rewrite makes FP4, rewrite them, and hold the module to what it computed before."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from nvfp4_trt.checking.modules import module_facts
from nvfp4_trt.checking.rules import judge
from nvfp4_trt.errors import FixChangedMeaningError
from nvfp4_trt.fixing.padded_k import PaddedLinear
from nvfp4_trt.fixing.patches import PatchLinear
from nvfp4_trt.fixing.pointwise import PointwiseLinear
from nvfp4_trt.loading import check_runs, flatten_outputs
from nvfp4_trt.loading.stored import releasing
from nvfp4_trt.quantization.convert import carry_over, open_attention, put
from nvfp4_trt.quantization.select import is_conv1d

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvfp4_trt.loading import Batch

FIXES: dict[str, Callable[..., nn.Module]] = {
    "convolution-1x1": PointwiseLinear,
    "patch-embedding": PatchLinear,
    "k-not-blocks": PaddedLinear,
    "k-small": PaddedLinear,
}
"""Rule of `check` → the module that takes the place of the layer."""
_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of an output, relative to its largest element: products are summed in another order."""


class Fixed(NamedTuple):
    """A module after its rewrites."""

    module: nn.Module
    layers: dict[str, str]
    """Name of a layer → the rule that it was rewritten for; a layer within a rewritten one may be there too."""


def fix_module(module: nn.Module, batch: Batch, *, inplace: bool = False) -> Fixed:
    """Rewrite every layer that can be FP4 afterwards, and run the module before and after.

    Args:
        module: a float module in evaluation mode.
        batch: an input, by the names of the forward's parameters.
        inplace: change `module` itself; otherwise a deep copy.

    Raises:
        FixChangedMeaningError: an output differs by more than rounding; names it.
        InputsMismatchError, ModelRunError: the module does not run on the batch.
    """
    with torch.no_grad(), releasing(module):
        before = flatten_outputs(check_runs(module, batch))
    with torch.no_grad():
        root = open_attention(module if inplace else copy.deepcopy(module))
        done: dict[str, str] = {}
        while found := _next(root, done):
            for name, rule in found.items():
                old = root.get_submodule(name)
                made = FIXES[rule](old)
                carry_over(old, made)
                root = put(root, old, made)
            done |= found
    if done:
        with releasing(root):
            _compare(before, flatten_outputs(check_runs(root, batch)), done)
    return Fixed(root, done)


def _next(root: nn.Module, done: dict[str, str]) -> dict[str, str]:
    """Return the layers to rewrite, with their rules; those of plain classes, whose forward is known."""
    verdicts = [judge(facts) for facts in module_facts(root)]
    found = {v.name: v.code for v in verdicts if v.code in FIXES and v.name not in done}
    return {name: rule for name, rule in found.items() if _is_plain(root.get_submodule(name))}


def _is_plain(module: nn.Module) -> bool:
    return type(module) in _PLAIN or is_conv1d(module)


def _compare(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], done: dict[str, str]) -> None:
    for name, expected in before.items():
        if not _same(expected, after[name]):
            raise FixChangedMeaningError(
                f"after --fix the output {name!r} is another (layers rewritten: {', '.join(done)})",
                "export without --fix",
            )


def _same(expected: torch.Tensor, got: torch.Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(expected, got)
    finite = expected.isfinite()
    if not torch.equal(finite, got.isfinite()):
        return False
    old, new = expected[finite].double(), got[finite].double()
    if not old.numel():
        return True
    return bool((old - new).abs().max() <= _TOLERANCE[expected.dtype] * old.abs().max())
