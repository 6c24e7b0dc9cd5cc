"""This package's own format: `NAME_packed`, `NAME_block_scale`, `NAME_per_tensor_scale`, as `pack` writes them.

A static input scale is `NAME_input_scale`, which multiplies; `nvfp4.weights` in the metadata says of each weight
its shape, its dtype and, where that is known, how its layer's input is quantized (`activation`); of the weight of
a `Conv1D`, that its layer stores it `transposed`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.checkpoints.carrying import Carried, carried_entries
from nvfp4_trt.checkpoints.holding import scale_of
from nvfp4_trt.checkpoints.taking import Taking
from nvfp4_trt.checkpoints.weights import Activation, Checkpoint, Format, StoredWeight, Written
from nvfp4_trt.errors import CheckpointConfigError
from nvfp4_trt.quantization.packed_files import BLOCK_SCALE, PACKED, PER_TENSOR_SCALE, PREFIX, VERSION
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from nvfp4_trt.checkpoints.source import Source

_INPUT_SCALE = "_input_scale"
SAYS_VERSION, SAYS_WEIGHTS = f"{PREFIX}version", f"{PREFIX}weights"
"""Entries of the header's metadata."""


def is_packed(source: Source) -> bool:
    """Return whether the headers say that the weights are packed as here."""
    return SAYS_VERSION in source.metadata


def read_packed(source: Source) -> Checkpoint:
    """Read a file that `pack` or `convert` wrote.

    Raises:
        CheckpointConfigError: the metadata cannot be read, is of another version, or contradicts the tensors.
        TensorMissingError, TensorUnexpectedError, TensorInvalidError, ScaleInvalidError: see `Taking`.
    """
    version = source.metadata[SAYS_VERSION]
    if version != VERSION:
        raise CheckpointConfigError(
            f"{source.path} is of version {version} of the packed format; this is {VERSION}", "update nvfp4-trt"
        )
    taking, carried = Taking(source), Carried(source.metadata)
    weights = {name: _weight(taking, carried, name, said) for name, said in _said(source).items()}
    others = taking.others(never=(PACKED, BLOCK_SCALE, PER_TENSOR_SCALE, _INPUT_SCALE))
    return Checkpoint(source, Format.PACKED, weights, others)


def _said(source: Source) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(source.metadata.get(SAYS_WEIGHTS, ""))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(said, dict) for said in found.values()):
        raise CheckpointConfigError(
            f"{source.path}: {SAYS_WEIGHTS} in its metadata cannot be read", "pack it again"
        )
    return found


def _weight(taking: Taking, carried: Carried, name: str, said: dict[str, Any]) -> StoredWeight:
    codes = taking.codes(name + PACKED)
    shape = [codes.shape[0], codes.shape[1] * 2]
    if said.get("shape") != shape:
        raise CheckpointConfigError(
            f"{taking.home(name + PACKED)}: its metadata says that {name} is {said.get('shape')}, and "
            f"{name + PACKED} is that of {shape}",
            "pack it again",
        )
    scale = taking.scale(name + PER_TENSOR_SCALE, name, reciprocal=False)
    return StoredWeight(
        name,
        taking.dtype(name, said.get("dtype")),
        codes,
        taking.block_scale(name + BLOCK_SCALE, codes, name),
        carried.scale(name, scale),
        _activation(taking, carried, name, said.get("activation")),
        transposed=said.get("transposed") is True,
    )


def _activation(taking: Taking, carried: Carried, name: str, said: str | None) -> Activation | None:
    if said is None:
        return None
    if said not in set(ActivationScaling):
        raise CheckpointConfigError(
            f"{taking.source.path}: its metadata gives {name} the activation {said!r}",
            f"known are {', '.join(ActivationScaling)}",
        )
    scaling = ActivationScaling(said)
    if scaling is not ActivationScaling.STATIC:
        return Activation(scaling)
    return carried.activation(name, Activation(scaling, taking.scale(name + _INPUT_SCALE, name, reciprocal=False)))


def write_packed(checkpoint: Checkpoint) -> Written:
    """Return a checkpoint in this format; it holds everything that the others do."""
    tensors = dict(checkpoint.others)
    said: dict[str, dict[str, Any]] = {}
    for name, weight in checkpoint.weights.items():
        tensors[name + PACKED], tensors[name + BLOCK_SCALE] = weight.packed, weight.block_scale
        tensors[name + PER_TENSOR_SCALE] = torch.tensor(scale_of(weight).multiplier())
        n, half = weight.packed.shape
        said[name] = {"shape": [n, 2 * half], "dtype": str(weight.dtype).removeprefix("torch.")}
        if weight.transposed:
            said[name]["transposed"] = True
        if weight.activation is not None:
            said[name]["activation"] = str(weight.activation.scaling)
            if weight.activation.scale is not None:
                tensors[name + _INPUT_SCALE] = torch.tensor(weight.activation.scale.multiplier())
    metadata = {
        SAYS_VERSION: VERSION,
        SAYS_WEIGHTS: json.dumps(said),
        **carried_entries(checkpoint, reciprocal=False),
    }
    return Written(tensors, metadata, alone=True)
