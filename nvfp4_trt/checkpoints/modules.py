"""From a checkpoint to a quantized module: the model is made around placeholders, which packed weights replace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nvfp4_trt.checkpoints.formats import read_checkpoint
from nvfp4_trt.checkpoints.holding import scale_of
from nvfp4_trt.checkpoints.packed import SAYS_VERSION
from nvfp4_trt.checkpoints.source import CONFIG, HF_QUANT_CONFIG, WEIGHTS
from nvfp4_trt.checkpoints.torchao import SAYS_NAMES
from nvfp4_trt.checkpoints.weights import Activation, Format
from nvfp4_trt.errors import CheckpointConfigError, StateDictMismatchError, WrongKindError
from nvfp4_trt.loading.folders import fill_folder, read_config
from nvfp4_trt.loading.hashing import hash_meanwhile
from nvfp4_trt.loading.loaded import LoadedModel, SourceKind
from nvfp4_trt.loading.safetensors_files import read_header
from nvfp4_trt.loading.state_dicts import WRAPPERS, fill_factory
from nvfp4_trt.quantization.convert import open_attention
from nvfp4_trt.quantization.given import GivenWeight, place_given
from nvfp4_trt.quantization.modules import PackedWeight
from nvfp4_trt.quantization.packed_files import PREFIX
from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES, ActivationScaling, Recipe, RuleName, WeightMethod, Weights

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.checkpoints.weights import Checkpoint, StoredWeight
    from nvfp4_trt.loading.checkpoints import StateDict
    from nvfp4_trt.quantization import QuantizedModel

_RULES = {
    Format.PACKED: RuleName.SPEC,
    Format.TORCHAO: RuleName.TORCHAO,
    Format.COMPRESSED_TENSORS: RuleName.COMPRESSED_TENSORS,
    Format.MODELOPT: RuleName.MODELOPT,
}


class FromCheckpoint(NamedTuple):
    """A module with a checkpoint's weights, and what it was loaded from."""

    loaded: LoadedModel
    quantized: QuantizedModel


def is_checkpoint(path: Path) -> bool:
    """Return whether a path holds weights that say that they are NVFP4: told from what is small to read.

    Raises:
        NotAModelError, FileTruncatedError: see `read_config` and `read_header`.
    """
    if not path.is_dir():
        return path.is_file() and _looks_like_safetensors(path) and _says(path)
    if (path / HF_QUANT_CONFIG).is_file():
        return True
    if (path / CONFIG).is_file() and read_config(path).get("quantization_config"):
        return True
    return (path / WEIGHTS).is_file() and _looks_like_safetensors(path / WEIGHTS) and _says(path / WEIGHTS)


def _looks_like_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _says(file: Path) -> bool:
    metadata = read_header(file).metadata
    return SAYS_VERSION in metadata or SAYS_NAMES in metadata


def load_checkpoint(path: Path, *, factory: str | None = None, recipe: Recipe | None = None) -> FromCheckpoint:
    """Load a quantized model: its packed weights are the checkpoint's, mapped from their files.

    Args:
        path: what `read_checkpoint` takes.
        factory: `package.module:function` that makes the module; by default a folder's `config.json` does.
        recipe: how activations are scaled, instead of how the checkpoint says; a static recipe takes the
            checkpoint's scales.

    Raises:
        Nvfp4Error: those of `read_checkpoint`, `fill_folder` and `fill_factory`.
        CheckpointConfigError: a static recipe, and the checkpoint has no input scale for a layer.
        StateDictMismatchError: a packed weight has no place in the module.
    """
    checkpoint = read_checkpoint(path)
    holders = {name: _placeholder(weight) for name, weight in checkpoint.weights.items()}
    weights = {**checkpoint.others, **holders}
    if factory is not None:
        module, notes = fill_factory(factory, weights, str(path), adapt=lambda made: _opened(made, weights))
    elif path.is_dir():
        module, notes = fill_folder(path, weights)
    else:
        raise WrongKindError(
            f"{path} is a file of packed weights: it holds no module to put them in",
            f"name a function that builds the module: nvfp4-trt export {path} --model package.module:factory",
        )
    given = {
        _place(module, name, holders[name], path): _given(weight, path, recipe)
        for name, weight in checkpoint.weights.items()
    }
    scalings = Counter(each.scaling for each in given.values())
    common = recipe or Recipe(name=f"from {checkpoint.format}")
    common = common.model_copy(
        update={
            "weights": Weights(rule=_rule(checkpoint), method=_method(checkpoint)),
            "activations": common.activations.model_copy(update={"scaling": scalings.most_common(1)[0][0]}),
        }
    )
    quantized = place_given(module, given, common)
    loaded = LoadedModel(
        quantized.module,
        SourceKind.CHECKPOINT,
        str(path),
        hash_meanwhile(checkpoint.source.files),
        None,
        (*notes, f"{len(given)} packed weights of a {checkpoint.format} checkpoint, as they are"),
    )
    return FromCheckpoint(loaded, quantized)


def _rule(checkpoint: Checkpoint) -> RuleName:
    """Return the rule that weights were rounded by: the header's word, or the habit of the format's package."""
    said = checkpoint.source.metadata.get(f"{PREFIX}scale_rule")
    return RuleName(said) if said in set(RuleName) else _RULES[checkpoint.format]


def _opened(module: nn.Module, weights: StateDict) -> nn.Module:
    """Return a module with its attention opened, where the weights are named as those of opened attention."""
    for name, child in module.named_modules():
        first = f"{name}.q_proj.weight" if name else "q_proj.weight"
        if isinstance(child, nn.MultiheadAttention) and any(each.endswith(first) for each in weights):
            return open_attention(module)
    return module


def _method(checkpoint: Checkpoint) -> WeightMethod:
    """Return how scales were chosen: the header's word, or `max`, which is what the formats' own packages do."""
    said = checkpoint.source.metadata.get(f"{PREFIX}method")
    return WeightMethod(said) if said in set(WeightMethod) else WeightMethod.MAX


def _placeholder(weight: StoredWeight) -> Tensor:
    """Return zeros of the weight's shape that take the memory of one, and are told by their address."""
    n, half = weight.packed.shape
    shape = (2 * half, n) if weight.transposed else (n, 2 * half)
    return torch.zeros(1, dtype=weight.dtype).expand(shape)


def _place(module: nn.Module, name: str, holder: Tensor, path: Path) -> str:
    """Return the layer that a placeholder went to: a library may have renamed it on the way.

    Where several layers share it, it is the one of its own name, such as the head that is tied with an embedding.
    """
    bare: str = name
    for prefix in WRAPPERS:
        bare = bare.removeprefix(prefix)
    layer: str = bare.removesuffix(".weight")
    modules = dict(module.named_modules())
    # A property may compute `weight`: the parameters tell.
    own = {each: child._parameters.get("weight") for each, child in modules.items()}  # noqa: SLF001
    holding: list[str] = [
        each for each, held in own.items() if held is not None and held.data_ptr() == holder.data_ptr()
    ]
    if holding and layer not in holding:
        return holding[0]
    if layer == bare or own.get(layer) is None:
        raise StateDictMismatchError(
            f"{path}: the packed weight {name} has no place in the model", "leave it unpacked, or mend config.json"
        )
    return layer


def _given(weight: StoredWeight, path: Path, recipe: Recipe | None) -> GivenWeight:
    stored = weight.activation or Activation(RECIPES[DEFAULT_RECIPE].activations.scaling)
    scaling = stored.scaling if recipe is None else recipe.activations.scaling
    scale = None
    if scaling is ActivationScaling.STATIC:
        if stored.scale is None:
            raise CheckpointConfigError(
                f"{path} has no static input scale for the layer of {weight.name}",
                "choose another recipe, such as w4a4-dynamic-token",
            )
        scale = torch.tensor(stored.scale.multiplier())
    tensor_scale = torch.tensor(scale_of(weight).multiplier())
    packed = PackedWeight(weight.packed, weight.block_scale, tensor_scale)
    return GivenWeight(packed, scaling, scale, transposed=weight.transposed)
