"""ModelOpt's unified Hugging Face checkpoint.

`LAYER.weight` uint8 `[N, K/2]`, `LAYER.weight_scale` e4m3 `[N, K/16]`, `LAYER.weight_scale_2` fp32 `[]` and, where
activations are quantized, `LAYER.input_scale` fp32 `[]`; both multiply. `hf_quant_config.json`, and the same in
`quantization_config` of `config.json`, name the algorithm: `NVFP4`, `W4A16_NVFP4`, or `MIXED_PRECISION` with the
algorithm of each layer. Read in nvidia-modelopt 0.47 (`torch/export/convert_hf_config.py`, `quant_utils.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.checkpoints.carrying import Carried, carried_entries
from nvfp4_trt.checkpoints.holding import held_activation, layer_of, scale_of
from nvfp4_trt.checkpoints.source import HF_QUANT_CONFIG
from nvfp4_trt.checkpoints.taking import Taking
from nvfp4_trt.checkpoints.weights import WEIGHT_ONLY, Activation, Checkpoint, Format, StoredWeight, Written
from nvfp4_trt.errors import CheckpointConfigError, TensorUnexpectedError
from nvfp4_trt.format import BLOCK
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from nvfp4_trt.checkpoints.source import Source

_W4A4, _W4A16, _MIXED = "NVFP4", "W4A16_NVFP4", "MIXED_PRECISION"
_SCALES = (".weight_scale", ".weight_scale_2", ".input_scale")
_UNREAD = (".pre_quant_scale", ".svdquant_lora_a", ".svdquant_lora_b", ".k_scale", ".v_scale")


def is_modelopt(source: Source) -> bool:
    """Return whether the folder says that it is ModelOpt's."""
    return source.hf_quant_config is not None or source.quantization.get("quant_method") == "modelopt"


def read_modelopt(source: Source) -> Checkpoint:
    """Read a folder in ModelOpt's format.

    Raises:
        CheckpointConfigError: another algorithm than NVFP4's, or one that contradicts the tensors.
        TensorMissingError, TensorUnexpectedError, TensorInvalidError, ScaleInvalidError: see `Taking`.
    """
    said = _Said(source)
    taking, carried = Taking(source), Carried(source.metadata)
    packed = [
        name.removesuffix(".weight")
        for name, tensor in source.tensors.items()
        if name.endswith(".weight") and tensor.dtype == torch.uint8
    ]
    scaled = [name.removesuffix(_SCALES[1]) for name in source.tensors if name.endswith(_SCALES[1])]
    weights = {}
    for layer in dict.fromkeys((*packed, *scaled)):
        said.check_packed(layer)
        weights[f"{layer}.weight"] = _weight(taking, carried, layer, said)
    for layer in sorted(said.promised - set(packed)):
        raise CheckpointConfigError(
            f"{said.file} says that {layer} is quantized, and {taking.home(f'{layer}.weight')} has no packed "
            f"{layer}.weight",
            "copy the configuration that the weights were written with",
        )
    _refuse_unread(taking)
    return Checkpoint(source, Format.MODELOPT, weights, taking.others(never=_SCALES))


def _refuse_unread(taking: Taking) -> None:
    for name in taking.source.tensors:
        if name.endswith(_UNREAD):
            raise TensorUnexpectedError(
                f"{taking.home(name)}: {name} changes what the model computes, and only NVFP4 weights and input "
                "scales are read",
                "export the model with an algorithm that does without it",
            )


def _weight(taking: Taking, carried: Carried, layer: str, said: _Said) -> StoredWeight:
    name = f"{layer}.weight"
    codes = taking.codes(name)
    block_scale = taking.block_scale(layer + _SCALES[0], codes, name)
    scale = taking.scale(layer + _SCALES[1], name, reciprocal=False)
    activation = WEIGHT_ONLY
    if said.algorithm(layer) == _W4A4:
        input_scale = taking.scale(layer + _SCALES[2], f"{layer}, which is {_W4A4}", reciprocal=False)
        activation = Activation(ActivationScaling.STATIC, input_scale)
    elif layer + _SCALES[2] in taking:
        raise CheckpointConfigError(
            f"{said.file} says that {layer} is {_W4A16}, and {taking.home(layer + _SCALES[2])} has {layer}"
            f"{_SCALES[2]}",
            "copy the configuration that the weights were written with",
        )
    return carried.weight(taking, name, codes, block_scale, scale, activation)


class _Said:
    """What the configuration says of each layer."""

    def __init__(self, source: Source) -> None:
        self.file = source.path / (HF_QUANT_CONFIG if source.hf_quant_config is not None else "config.json")
        nested = (source.hf_quant_config or {}).get("quantization")
        fields = nested if isinstance(nested, Mapping) else source.quantization
        self.whole = fields.get("quant_algo")
        layers = fields.get("quantized_layers") if self.whole == _MIXED else None
        self.layers: Mapping[str, Any] = layers if isinstance(layers, Mapping) else {}
        excluded = fields.get("exclude_modules", fields.get("ignore"))
        self.excluded = [str(each) for each in excluded] if isinstance(excluded, list) else []
        kinds = {
            None if self.whole == _MIXED else self.whole,
            *(self._of(entry) for entry in self.layers.values()),
        }
        for kind in kinds - {None, _W4A4, _W4A16}:
            raise CheckpointConfigError(
                f"{self.file} names the algorithm {kind}", f"{_W4A4}, {_W4A16} and a mixture of them are read"
            )
        if self.whole is None or (self.whole == _MIXED and not self.layers):
            raise CheckpointConfigError(f"{self.file} names no algorithm (quant_algo)", "copy it again")
        for size in {_group_size(fields), *(_group_size(entry) for entry in self.layers.values())} - {None, BLOCK}:
            raise CheckpointConfigError(
                f"{self.file} says group_size {size}; NVFP4's is {BLOCK}", "give an NVFP4 checkpoint"
            )
        cache = fields.get("kv_cache_quant_algo") or fields.get("kv_cache_scheme")
        if cache:
            raise CheckpointConfigError(
                f"{self.file} quantizes the key-value cache ({cache}), which is not read",
                "export the model without that",
            )

    @staticmethod
    def _of(entry: Any) -> Any:
        return entry.get("quant_algo") if isinstance(entry, Mapping) else entry

    @property
    def promised(self) -> set[str]:
        """The layers that are named as quantized."""
        return set(self.layers)

    def algorithm(self, layer: str) -> Any:
        return self._of(self.layers[layer]) if self.whole == _MIXED else self.whole

    def check_packed(self, layer: str) -> None:
        left_out = self.whole == _MIXED and layer not in self.layers
        if left_out or any(fnmatchcase(layer, pattern) for pattern in self.excluded):
            raise CheckpointConfigError(
                f"{self.file} says that {layer} is not quantized, and its weight {layer}.weight is packed",
                "copy the configuration that the weights were written with",
            )


def _group_size(entry: Any) -> Any:
    return entry.get("group_size") if isinstance(entry, Mapping) else None


def write_modelopt(checkpoint: Checkpoint) -> Written:
    """Return a checkpoint in ModelOpt's format.

    Raises:
        FormatCannotHoldError: a scaling of activations other than static and none, or a weight of another name
            than `LAYER.weight`.
    """
    tensors = dict(checkpoint.others)
    kinds: dict[str, str] = {}
    for name, weight in checkpoint.weights.items():
        layer = layer_of(weight, Format.MODELOPT)
        activation = held_activation(weight, Format.MODELOPT)
        tensors[name], tensors[layer + _SCALES[0]] = weight.packed, weight.block_scale
        tensors[layer + _SCALES[1]] = torch.tensor(scale_of(weight).multiplier())
        kinds[layer] = _W4A16 if activation.scale is None else _W4A4
        if activation.scale is not None:
            tensors[layer + _SCALES[2]] = torch.tensor(activation.scale.multiplier())
    details = _details(kinds, checkpoint)
    producer = {"name": "modelopt", "version": f"written by nvfp4-trt {version('nvfp4-trt')}"}
    files = {HF_QUANT_CONFIG: {"producer": producer, "quantization": details}}
    metadata = carried_entries(checkpoint, reciprocal=False)
    return Written(tensors, metadata, _as_quantization_config(details, kinds, producer), files)


def _details(kinds: dict[str, str], checkpoint: Checkpoint) -> dict[str, Any]:
    common: dict[str, Any] = {"kv_cache_quant_algo": None}
    if len(set(kinds.values())) > 1:
        layers = {layer: {"quant_algo": kind, "group_size": BLOCK} for layer, kind in kinds.items()}
        return {"quant_algo": _MIXED, **common, "quantized_layers": layers}
    return {
        "quant_algo": next(iter(kinds.values())),
        **common,
        "group_size": BLOCK,
        "exclude_modules": checkpoint.unquantized_layers,
    }


def _as_quantization_config(
    details: dict[str, Any], kinds: dict[str, str], producer: dict[str, str]
) -> dict[str, Any]:
    """Return `quantization_config` of `config.json`, as ModelOpt's `convert_hf_quant_config_format` makes it."""
    numbers = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": BLOCK}
    groups = {}
    for index, kind in enumerate(sorted(set(kinds.values()))):
        one_kind = "quantized_layers" not in details
        targets = ["Linear"] if one_kind else sorted(layer for layer, of in kinds.items() if of == kind)
        inputs = {"input_activations": numbers} if kind == _W4A4 else {}
        groups[f"group_{index}"] = {**inputs, "weights": numbers, "targets": targets}
    made = {"config_groups": groups, "ignore": details.get("exclude_modules", []), "producer": producer}
    if "quantized_layers" in details:
        made["quantized_layers"] = details["quantized_layers"]
    return {**made, "quant_algo": details["quant_algo"], "quant_method": "modelopt"}
