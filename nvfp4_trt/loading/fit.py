"""Whether inputs fit a model, told without computing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nvfp4_trt.loading.inputs import check_runs
from nvfp4_trt.loading.stored import releasing

if TYPE_CHECKING:
    from nvfp4_trt.loading.loaded import Batch


def check_fits(module: nn.Module, batch: Batch) -> None:
    """Run one forward on tensors that have shapes and dtypes and no data.

    Where that fails, the forward runs once on the real inputs: it may look at data, which is its right.

    Raises:
        InputsMismatchError, ModelRunError: see `check_runs`.
    """
    handles = [
        child.register_forward_pre_hook(_check_dtype) for child in module.modules() if isinstance(child, nn.Linear)
    ]
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
            module(**{name: fake.from_tensor(tensor) for name, tensor in batch.items()})
    except Exception:  # noqa: BLE001 (the model's own code runs; the real run says what was wrong)
        misfit = True
    else:
        misfit = False
    finally:
        for handle in handles:
            handle.remove()
    if misfit:
        with releasing(module):
            check_runs(module, batch)


def _check_dtype(layer: nn.Module, args: tuple[Any, ...]) -> None:
    """Raise where a linear layer's dtypes differ: without data, torch lets that pass."""
    if args and isinstance(args[0], torch.Tensor) and args[0].dtype != layer.weight.dtype:
        raise TypeError(f"{args[0].dtype} into a layer of {layer.weight.dtype}")
