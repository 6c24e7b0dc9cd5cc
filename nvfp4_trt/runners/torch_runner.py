"""The float model as a Polygraphy runner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from nvfp4_trt.loading import check_runs, flatten_outputs
from nvfp4_trt.runners.arrays import Feed, as_numpy

if TYPE_CHECKING:
    from torch import nn

    from nvfp4_trt.loading import Batch


class TorchRunner(BaseRunner):  # type: ignore[misc] # Polygraphy has no types
    """Runs a module as it is, in its own precision and on its own device.

    Outputs are named by `loading.flatten_outputs`, as an exported file's are. bf16 inputs and outputs are
    fp32 on the outside (see `as_numpy`).

    Args:
        module: a module in eval mode.
        example: a batch that it takes; names, dtypes and ranks are those of every later one.
        name: the runner's name in Polygraphy's results.
    """

    def __init__(self, module: nn.Module, example: Batch, *, name: str = "torch") -> None:
        super().__init__(name=name, prefix="torch-runner")
        self._module = module
        self._example = dict(example)

    def get_input_metadata_impl(self) -> TensorMetadata:
        """Return the names and dtypes of the inputs; every extent is dynamic."""
        metadata = TensorMetadata()
        for name, tensor in self._example.items():
            metadata.add(name, dtype=as_numpy(tensor).dtype, shape=[None] * tensor.dim())
        return metadata

    def infer_impl(self, feed_dict: Feed) -> Feed:
        """Run one forward without gradients.

        Raises:
            InputsMismatchError: the inputs do not fit the forward.
            ModelRunError: the forward raised, or returned something other than tensors.
        """
        device = _device(self._module)
        batch = {
            name: torch.as_tensor(feed_dict[name]).to(device=device, dtype=example.dtype)
            for name, example in self._example.items()
        }
        start = time.perf_counter()
        outputs = flatten_outputs(check_runs(self._module, batch))
        arrays = {name: as_numpy(tensor) for name, tensor in outputs.items()}
        self.inference_time = time.perf_counter() - start
        return arrays


def _device(module: nn.Module) -> torch.device:
    first = next(iter(module.parameters()), None)
    return torch.device("cpu") if first is None else first.device
