"""compressed-tensors' `nvfp4-pack-quantized`, which llm-compressor writes.

`LAYER.weight_packed` uint8 `[N, K/2]`, `LAYER.weight_scale` e4m3 `[N, K/16]`, `LAYER.weight_global_scale` fp32
`[1]` and, where activations are quantized, `LAYER.input_global_scale` fp32 `[1]`; both global scales are
reciprocals. `quantization_config` of `config.json` has the schemes. Read in compressed-tensors 0.20
(`compressors/nvfp4/base.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from nvfp4_trt.checkpoints.carrying import Carried, carried_entries
from nvfp4_trt.checkpoints.holding import held_activation, layer_of, scale_of
from nvfp4_trt.checkpoints.taking import Taking
from nvfp4_trt.checkpoints.weights import WEIGHT_ONLY, Activation, Checkpoint, Format, StoredWeight, Written
from nvfp4_trt.errors import CheckpointConfigError
from nvfp4_trt.format import BLOCK
from nvfp4_trt.recipe import ActivationScaling

if TYPE_CHECKING:
    from nvfp4_trt.checkpoints.source import Source

_FORMAT = "nvfp4-pack-quantized"
_PACKED, _SCALE, _GLOBAL, _INPUT = ".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"
_NEVER = (_PACKED, _SCALE, _GLOBAL, _INPUT, ".weight_zero_point", ".k_scale", ".v_scale")
_NUMBERS = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": BLOCK, "symmetric": True}
_RESTORE = "copy the configuration that the weights were written with"


def is_compressed_tensors(source: Source) -> bool:
    """Return whether `config.json` says that it is compressed-tensors'."""
    return source.quantization.get("quant_method") == "compressed-tensors"


def read_compressed_tensors(source: Source) -> Checkpoint:
    """Read a folder in this format.

    Raises:
        CheckpointConfigError: another scheme than NVFP4, or one that contradicts the tensors.
        TensorMissingError, TensorUnexpectedError, TensorInvalidError, ScaleInvalidError: see `Taking`.
    """
    said = _Said(source)
    taking, carried = Taking(source), Carried(source.metadata)
    layers = [name.removesuffix(_PACKED) for name in source.tensors if name.endswith(_PACKED)]
    weights = {f"{layer}.weight": _weight(taking, carried, layer, said) for layer in layers}
    for layer in sorted(said.promised - set(layers)):
        raise CheckpointConfigError(
            f"{said.file} says that {layer} is quantized, and there is no {layer}{_PACKED}", _RESTORE
        )
    return Checkpoint(source, Format.COMPRESSED_TENSORS, weights, taking.others(never=_NEVER))


def _weight(taking: Taking, carried: Carried, layer: str, said: _Said) -> StoredWeight:
    name = f"{layer}.weight"
    codes = taking.codes(layer + _PACKED)
    block_scale = taking.block_scale(layer + _SCALE, codes, name)
    scale = taking.scale(layer + _GLOBAL, name, reciprocal=True)
    activation = WEIGHT_ONLY
    if said.quantizes_input(layer):
        input_scale = taking.scale(layer + _INPUT, f"{layer}, whose input is quantized", reciprocal=True)
        activation = Activation(ActivationScaling.STATIC, input_scale)
    elif layer + _INPUT in taking:
        raise CheckpointConfigError(
            f"{said.file} says that the input of {layer} is not quantized, and {taking.home(layer + _INPUT)} has "
            f"{layer}{_INPUT}",
            _RESTORE,
        )
    return carried.weight(taking, name, codes, block_scale, scale, activation)


class _Said:
    """What `quantization_config` says of each layer."""

    def __init__(self, source: Source) -> None:
        self.file = source.path / "config.json"
        fields = source.quantization
        groups = fields.get("config_groups")
        self.groups = [g for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
        ignored = fields.get("ignore")
        self.ignored = [str(each) for each in ignored] if isinstance(ignored, list) else []
        if not self.groups:
            raise CheckpointConfigError(f"{self.file} has no config_groups in its quantization_config", _RESTORE)
        for group in self.groups:
            self._check(group, fields.get("format"))
        for key in ("kv_cache_scheme", "transform_config", "sparsity_config"):
            if fields.get(key):
                raise CheckpointConfigError(
                    f"{self.file} has a {key}, which changes what the model computes and is not read",
                    "write the checkpoint without it",
                )

    def _check(self, group: dict[str, Any], whole: Any) -> None:
        kind = group.get("format") or whole
        if kind != _FORMAT:
            raise CheckpointConfigError(f"{self.file} names the format {kind}", f"{_FORMAT} is read")
        weights, inputs = group.get("weights"), group.get("input_activations")
        for what, numbers in (("weights", weights), ("input_activations", inputs)):
            if what == "input_activations" and numbers is None:
                continue
            given = numbers if isinstance(numbers, dict) else {}
            for key, wanted in _NUMBERS.items():
                if given.get(key, wanted if key == "symmetric" else None) != wanted:
                    raise CheckpointConfigError(
                        f"{self.file}: {what} have {key} {given.get(key)}; NVFP4's is {wanted}",
                        "give an NVFP4 checkpoint",
                    )
        if inputs is not None and inputs.get("dynamic") != "local":
            raise CheckpointConfigError(
                f"{self.file}: input_activations are dynamic {inputs.get('dynamic')!r}",
                "'local', a global scale from calibration and block scales at run time, is read",
            )
        if group.get("output_activations"):
            raise CheckpointConfigError(
                f"{self.file} quantizes output_activations, which is not read", "write it without"
            )

    @property
    def promised(self) -> set[str]:
        """The layers that are named as quantized: targets with a dot are no class names."""
        named = {str(target) for group in self.groups for target in group.get("targets") or []}
        return {name for name in named if "." in name and not name.startswith("re:")} - set(self.ignored)

    def quantizes_input(self, layer: str) -> bool:
        """Return whether a packed layer's input is quantized.

        Raises:
            CheckpointConfigError: the layer is ignored, or no group has it.
        """
        if any(_matches(layer, pattern) for pattern in self.ignored):
            raise CheckpointConfigError(
                f"{self.file} ignores {layer}, and its weight {layer}{_PACKED} is packed", _RESTORE
            )
        by_name = [g for g in self.groups if any(_matches(layer, str(t)) for t in g.get("targets") or [])]
        by_class = [g for g in self.groups if any(_is_class(str(t)) for t in g.get("targets") or [])]
        found = by_name or by_class
        if not found:
            raise CheckpointConfigError(
                f"{self.file} has no group for {layer}, and its weight {layer}{_PACKED} is packed", _RESTORE
            )
        return found[0].get("input_activations") is not None


def _matches(layer: str, pattern: str) -> bool:
    """Return whether a pattern of compressed-tensors is a layer's name, or a regular expression at its start."""
    if not pattern.startswith("re:"):
        return layer == pattern
    try:
        return re.match(pattern.removeprefix("re:"), layer) is not None
    except re.error:
        return False


def _is_class(target: str) -> bool:
    return target.isidentifier() and target[:1].isupper()


def write_compressed_tensors(checkpoint: Checkpoint) -> Written:
    """Return a checkpoint in this format; every layer is named in its scheme's targets.

    Raises:
        FormatCannotHoldError: a scaling of activations other than static and none, or a weight of another name
            than `LAYER.weight`.
    """
    tensors = dict(checkpoint.others)
    groups: dict[bool, list[str]] = {}
    for weight in checkpoint.weights.values():
        layer = layer_of(weight, Format.COMPRESSED_TENSORS)
        activation = held_activation(weight, Format.COMPRESSED_TENSORS)
        tensors[layer + _PACKED], tensors[layer + _SCALE] = weight.packed, weight.block_scale
        tensors[layer + _GLOBAL] = torch.tensor([scale_of(weight).divisor()])
        if activation.scale is not None:
            tensors[layer + _INPUT] = torch.tensor([activation.scale.divisor()])
        groups.setdefault(activation.scale is not None, []).append(layer)
    config = {
        "config_groups": {
            f"group_{index}": _scheme(layers, quantizes_input=quantizes)
            for index, (quantizes, layers) in enumerate(groups.items())
        },
        "format": _FORMAT,
        "ignore": checkpoint.unquantized_layers,
        "kv_cache_scheme": None,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }
    return Written(tensors, carried_entries(checkpoint, reciprocal=True), config)


def _scheme(layers: list[str], *, quantizes_input: bool) -> dict[str, Any]:
    numbers = {**_NUMBERS, "scale_dtype": "torch.float8_e4m3fn"}
    return {
        "format": _FORMAT,
        "weights": {**numbers, "dynamic": False},
        "input_activations": {**numbers, "dynamic": "local"} if quantizes_input else None,
        "output_activations": None,
        "targets": layers,
    }
