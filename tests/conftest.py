"""Portable files of small models, each exported once in a session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from parts import example

import nvfp4_trt


class Portable(NamedTuple):
    path: Path
    module: torch.nn.Module
    batch: dict[str, torch.Tensor]

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {name: as_array(tensor) for name, tensor in self.batch.items()}


def as_array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.fixture(scope="session")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Portable]:
    """Return the function that exports `(model's name, recipe, dtype)`."""

    @cache
    def export(name: str, recipe: str = "w4a4-dynamic-token", dtype: str = "float32") -> Portable:
        path = tmp_path_factory.mktemp("portable") / f"{name}.onnx"
        module, batch, dynamic = example(name)
        wanted = getattr(torch, dtype)
        module = module.to(wanted)
        batch = {key: t.to(wanted) if t.is_floating_point() else t for key, t in batch.items()}
        nvfp4_trt.export(module, path, recipe=recipe, inputs=[batch], dynamic=dynamic)
        return Portable(path, module, batch)

    return export
