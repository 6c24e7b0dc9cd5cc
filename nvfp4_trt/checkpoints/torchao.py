"""torchao's `NVFP4Tensor`, as `flatten_tensor_state_dict` puts it into safetensors.

`MODULE._NAME_qdata`, `_scale`, `_per_tensor_scale` and `_act_per_tensor_scale` are its tensors; the metadata has a
JSON entry for each name with the rest, and `tensor_names`. Read in torchao 0.18 (`prototype/safetensors`,
`prototype/mx_formats/nvfp4_tensor.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.checkpoints.carrying import Carried, carried_entries
from nvfp4_trt.checkpoints.holding import held_activation
from nvfp4_trt.checkpoints.taking import Taking
from nvfp4_trt.checkpoints.weights import WEIGHT_ONLY, Activation, Checkpoint, Format, StoredWeight, Written
from nvfp4_trt.errors import CheckpointConfigError, FormatCannotHoldError, TensorUnexpectedError
from nvfp4_trt.format import BLOCK
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nvfp4_trt.checkpoints.source import Source

SAYS_NAMES = "tensor_names"
"""Entry of the header's metadata that lists all others."""
_KIND = "NVFP4Tensor"
_QDATA, _SCALE, _TENSOR_SCALE, _INPUT_SCALE = "qdata", "scale", "per_tensor_scale", "act_per_tensor_scale"


def is_torchao(source: Source) -> bool:
    """Return whether the headers list flattened tensors as torchao does."""
    return SAYS_NAMES in source.metadata


def read_torchao(source: Source) -> Checkpoint:
    """Read a file or folder in torchao's format.

    Raises:
        CheckpointConfigError: the metadata cannot be read, has tensors of other classes, or contradicts them.
        TensorMissingError, TensorUnexpectedError, TensorInvalidError, ScaleInvalidError: see `Taking`.
    """
    taking, carried = Taking(source), Carried(source.metadata)
    weights, plain = {}, set()
    for name, entry in _entries(source).items():
        kind = entry.get("_type")
        if kind == "Tensor":
            plain.add(name)
        elif kind != _KIND:
            raise CheckpointConfigError(
                f"{source.path}: its metadata says that {name} is a {kind}", f"{_KIND} is read"
            )
        else:
            weights[name] = _weight(taking, carried, name, entry)
    others = taking.others(never=())
    for name in plain - others.keys():
        taking.require(name, "the tensors that the metadata names")
    for name in others.keys() - plain:
        raise TensorUnexpectedError(
            f"{taking.home(name)}: its metadata does not name the tensor {name}", "write the checkpoint again"
        )
    return Checkpoint(source, Format.TORCHAO, weights, others)


def _entries(source: Source) -> dict[str, dict[str, Any]]:
    try:
        names = json.loads(source.metadata[SAYS_NAMES])
        entries = {name: json.loads(source.metadata[name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointConfigError(
            f"{source.path}: torchao's entries in its metadata cannot be read ({type(error).__name__}: {error})",
            "write it again with flatten_tensor_state_dict",
        ) from error
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("_data", {}), dict):
            raise CheckpointConfigError(f"{source.path}: the entry of {name} cannot be read", "write it again")
    return entries


def _part(name: str, which: str) -> str:
    module, _, own = name.rpartition(".")
    return f"{module}._{own}_{which}"


def _weight(taking: Taking, carried: Carried, name: str, entry: Mapping[str, Any]) -> StoredWeight:
    said = entry.get("_data", {})
    home = taking.home(_part(name, _QDATA))
    if said.get("block_size") != BLOCK:
        raise CheckpointConfigError(
            f"{home}: {name} has block_size {said.get('block_size')}; NVFP4's is {BLOCK}", "give NVFP4 tensors"
        )
    codes = taking.codes(_part(name, _QDATA))
    place = _part(name, _SCALE)
    take = taking.tiled_block_scale if said.get("is_swizzled_scales") else taking.block_scale
    block_scale = take(place, codes, name)
    scale = None
    if _TENSOR_SCALE in entry.get("_tensor_data_names", []):
        scale = taking.scale(_part(name, _TENSOR_SCALE), name, reciprocal=False)
    stored = entry_dtype(said.get("orig_dtype"))
    return StoredWeight(
        name,
        taking.dtype(name, stored),
        codes,
        block_scale,
        None if scale is None else carried.scale(name, scale),
        _activation(taking, carried, name, said, entry.get("_tensor_data_names", [])),
    )


def entry_dtype(said: Any) -> str | None:
    """Return the dtype's name in an entry such as `{"_type": "torch.dtype", "_data": "bfloat16"}`."""
    return str(said.get("_data")) if isinstance(said, dict) else None


def _activation(
    taking: Taking, carried: Carried, name: str, said: Mapping[str, Any], present: list[str]
) -> Activation | None:
    kwargs = said.get("act_quant_kwargs")
    if _INPUT_SCALE in present:
        scale = taking.scale(_part(name, _INPUT_SCALE), name, reciprocal=False)
        if kwargs is None:
            raise CheckpointConfigError(
                f"{taking.home(_part(name, _INPUT_SCALE))}: {name} has an {_INPUT_SCALE}, and its metadata says "
                "that its input is not quantized",
                "write the checkpoint again",
            )
        return carried.activation(name, Activation(ActivationScaling.STATIC, scale))
    if kwargs is None:
        return carried.activation(name, WEIGHT_ONLY)
    dynamic = kwargs.get("_data", {}).get("use_dynamic_per_tensor_scale") if isinstance(kwargs, dict) else False
    return Activation(ActivationScaling.DYNAMIC if dynamic else ActivationScaling.SINGLE_LEVEL)


def write_torchao(checkpoint: Checkpoint) -> Written:
    """Return a checkpoint in torchao's format, block scales in rows.

    Raises:
        FormatCannotHoldError: dynamic-token scaling, or a name without a dot, which torchao cannot read.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name in (*checkpoint.others, *checkpoint.weights):
        if "." not in name:
            raise FormatCannotHoldError(
                f"{Format.TORCHAO} reads no tensor without a module's name, and one is named {name}",
                f"{Format.PACKED} holds it",
            )
    for name, tensor in checkpoint.others.items():
        tensors[name], entries[name] = tensor, {"_type": "Tensor"}
    for name, weight in checkpoint.weights.items():
        activation = held_activation(weight, Format.TORCHAO)
        parts = {_QDATA: weight.packed, _SCALE: weight.block_scale}
        if weight.scale is not None:
            parts[_TENSOR_SCALE] = torch.tensor(weight.scale.multiplier())
        if activation.scale is not None:
            parts[_INPUT_SCALE] = torch.tensor(activation.scale.multiplier())
        tensors |= {_part(name, which): tensor for which, tensor in parts.items()}
        entries[name] = {
            "_type": _KIND,
            "_data": _attributes(weight.dtype, activation.scaling),
            "_tensor_data_names": list(parts),
        }
    metadata = {name: json.dumps(entry) for name, entry in entries.items()}
    metadata[SAYS_NAMES] = json.dumps(list(entries))
    return Written(tensors, {**metadata, **carried_entries(checkpoint, reciprocal=False)}, alone=True)


def _attributes(dtype: torch.dtype, scaling: ActivationScaling) -> dict[str, Any]:
    kwargs = None
    if scaling is not ActivationScaling.NONE:
        kwargs = {
            "_type": "QuantizeTensorToNVFP4Kwargs",
            "_data": {
                "block_size": BLOCK,
                "is_swizzled_scales": True,
                "use_triton_kernel": False,
                "use_dynamic_per_tensor_scale": scaling is ActivationScaling.DYNAMIC,
            },
        }
    return {
        "is_swizzled_scales": False,
        "use_triton_kernel": False,
        "act_quant_kwargs": kwargs,
        "block_size": BLOCK,
        "orig_dtype": {"_type": "torch.dtype", "_data": str(dtype).removeprefix("torch.")},
    }
