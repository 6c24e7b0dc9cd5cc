"""`check`: what each layer of a model will be, before anything is built."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.checking.graphs import facts_of, has_codes
from nvfp4_trt.checking.outline import read_outline
from nvfp4_trt.checking.rules import judge
from nvfp4_trt.errors import NotFp4Error, WrongKindError
from nvfp4_trt.layers import NVFP4
from nvfp4_trt.patterns import matching
from nvfp4_trt.portable import looks_like_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from nvfp4_trt.checking.rules import Verdict
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel

_HEAD = 16


@dataclass(frozen=True)
class Checked:
    """What will become of a model's layers."""

    source: str
    """The file, or the class of a module in memory."""
    quantized: bool
    """Whether the file has NVFP4 codes: then it was judged as it is, else as `export` would quantize it."""
    layers: tuple[Verdict, ...]
    """In the order of the graph; or of the modules, and then of the products that are no module's."""
    traced: bool = True
    """Whether products of activations are among them: not those of a PyTorch model without example inputs."""

    def counts(self) -> dict[str, int]:
        """Return how many layers there are of each precision, `nvfp4` first."""
        found = Counter(layer.precision for layer in self.layers)
        return {NVFP4: found.pop(NVFP4, 0)} | dict(found.most_common())

    def require(self, patterns: Sequence[str]) -> None:
        """Hold layers to be FP4.

        Raises:
            PatternMatchesNothingError: a pattern matches no layer.
            NotFp4Error: a layer that a pattern matches will not be FP4; names all of them.
        """
        wanted = matching([layer.name for layer in self.layers], patterns, option="--require")
        lost = [layer for layer in self.layers if layer.name in wanted and layer.precision != NVFP4]
        if lost:
            named = "; ".join(f"{layer.name} ({layer.reason})" for layer in lost)
            remedy = next((f"{x.name}: {x.remedy}" for x in lost if x.remedy), "")
            raise NotFp4Error(
                f"{len(lost)} of {len(wanted)} required layers would not be FP4: {named}",
                remedy or "drop them from --require",
            )


def check(
    model: str | Path | nn.Module | QuantizedModel,
    *,
    factory: str | None = None,
    trust_pickle: bool = False,
    inputs: str | Path | Sequence[Batch] | None = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    require: Sequence[str] = (),
) -> Checked:
    """Tell for every linear layer, product and convolution whether it will be FP4, and why not; reads no weights.

    Args:
        model: any ONNX file; or what `export` takes: a path, a module or a quantized model.
        factory: `package.module:function` that makes the module of a state dict or safetensors file.
        trust_pickle: let the file run code where loading it means that.
        inputs: of a PyTorch model: example batches, a file of them, or `package.module:function`. The model is
            traced with the first, as `export` would, so that products of activations have rows too. A program
            (`.pt2`) carries its own.
        input_specs: random inputs instead, `NAME:DTYPE:SHAPE[:LOW..HIGH]` each.
        seed: of random inputs.
        require: patterns of layers that must be FP4.

    Raises:
        WrongKindError: example inputs for an ONNX file.
        FileMissingError, FileTruncatedError, NotAModelError, OnnxInvalidError: see `read_outline`.
        NotFp4Error, PatternMatchesNothingError: see `Checked.require`.
        Nvfp4Error: any other of `load_model`, `load_inputs` and `product_facts`.
    """
    if isinstance(model, (str, Path)) and is_onnx(Path(model)):
        if inputs is not None or input_specs:
            raise WrongKindError(f"{model} is an ONNX file, whose products are all in it", "leave the inputs out")
        outline = read_outline(Path(model))
        checked = Checked(str(model), has_codes(outline), tuple(map(judge, facts_of(outline))))
    else:
        checked = _check_modules(model, factory, trust_pickle, partial(_batch, inputs, input_specs, seed))
    if require:
        checked.require(require)
    return checked


def is_onnx(path: Path) -> bool:
    """Return whether a path is to be read as an ONNX file: by its suffix, or by how it begins."""
    if path.suffix == ".onnx" or not path.is_file():
        return path.suffix == ".onnx"
    with path.open("rb") as file:
        return looks_like_onnx(file.read(_HEAD))


def _check_modules(
    model: str | Path | nn.Module | QuantizedModel,
    factory: str | None,
    trust: bool,
    batch_of: Callable[[nn.Module, Batch | None], Batch | None],
) -> Checked:
    """Load a model of torch's, and check its layers; with a batch the products that are no layer's too."""
    from nvfp4_trt.checking.modules import layer_facts, module_facts
    from nvfp4_trt.checkpoints import is_checkpoint, load_checkpoint
    from nvfp4_trt.loading import load_model
    from nvfp4_trt.quantization import QuantizedModel

    example = None
    if isinstance(model, QuantizedModel):
        source, module, layers = type(model.module).__name__, model.module, model.layers
    elif isinstance(model, (str, Path)) and is_checkpoint(Path(model)):
        checkpoint = load_checkpoint(Path(model), factory=factory)
        source, module, layers = str(model), checkpoint.quantized.module, checkpoint.quantized.layers
    else:
        loaded = load_model(model, factory=factory, trust_pickle=trust)
        source, module, layers, example = loaded.source, loaded.module, None, loaded.example
    found = list(module_facts(module) if layers is None else layer_facts(layers))
    batch = batch_of(module, example)
    if batch is not None:
        from nvfp4_trt.checking.traced import product_facts

        found.extend(product_facts(module, batch, {facts.name for facts in found}))
    return Checked(source, layers is not None, tuple(map(judge, found)), traced=batch is not None)


def _batch(
    inputs: str | Path | Sequence[Batch] | None,
    specs: Sequence[str],
    seed: int,
    module: nn.Module,
    example: Batch | None,
) -> Batch | None:
    """Return the first batch that was given, or that a program carries; None without any."""
    from nvfp4_trt.loading import load_inputs

    if inputs is None and not specs:
        return example
    if inputs is None or isinstance(inputs, (str, Path)):
        source = None if inputs is None else str(inputs)
        return load_inputs(module, specs=specs, source=source, seed=seed, example=example).batches[0]
    return next(iter(inputs), example)
