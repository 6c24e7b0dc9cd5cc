"""`check`: what each layer of a model will be, before anything is built."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.checking.graphs import facts_of, has_codes
from nvfp4_trt.checking.outline import read_outline
from nvfp4_trt.checking.rules import judge
from nvfp4_trt.errors import NotFp4Error
from nvfp4_trt.layers import NVFP4
from nvfp4_trt.patterns import matching
from nvfp4_trt.portable import looks_like_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from nvfp4_trt.checking.facts import Facts
    from nvfp4_trt.checking.rules import Verdict
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
    """In the order of the graph or of the modules."""

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
    require: Sequence[str] = (),
) -> Checked:
    """Tell for every linear layer, product and convolution whether it will be FP4, and why not; reads no weights.

    Args:
        model: any ONNX file; or what `export` takes: a path, a module or a quantized model.
        factory: `package.module:function` that makes the module of a state dict or safetensors file.
        trust_pickle: let the file run code where loading it means that.
        require: patterns of layers that must be FP4.

    Raises:
        FileMissingError, FileTruncatedError, NotAModelError, OnnxInvalidError: see `read_outline`.
        NotFp4Error, PatternMatchesNothingError: see `Checked.require`.
        Nvfp4Error: any other of `load_model`.
    """
    if isinstance(model, (str, Path)) and is_onnx(Path(model)):
        outline = read_outline(Path(model))
        source, quantized, found = str(model), has_codes(outline), facts_of(outline)
    else:
        source, quantized, found = _modules(model, factory, trust=trust_pickle)
    checked = Checked(source, quantized, tuple(map(judge, found)))
    if require:
        checked.require(require)
    return checked


def is_onnx(path: Path) -> bool:
    """Return whether a path is to be read as an ONNX file: by its suffix, or by how it begins."""
    if path.suffix == ".onnx" or not path.is_file():
        return path.suffix == ".onnx"
    with path.open("rb") as file:
        return looks_like_onnx(file.read(_HEAD))


def _modules(
    model: str | Path | nn.Module | QuantizedModel, factory: str | None, *, trust: bool
) -> tuple[str, bool, Iterator[Facts]]:
    """Load a model of torch's, and return its name, whether it is quantized already, and its facts."""
    from nvfp4_trt.checking.modules import layer_facts, module_facts
    from nvfp4_trt.checkpoints import is_checkpoint, load_checkpoint
    from nvfp4_trt.loading import load_model
    from nvfp4_trt.quantization import QuantizedModel

    if isinstance(model, QuantizedModel):
        return type(model.module).__name__, True, layer_facts(model.layers)
    if isinstance(model, (str, Path)) and is_checkpoint(Path(model)):
        return str(model), True, layer_facts(load_checkpoint(Path(model), factory=factory).quantized.layers)
    loaded = load_model(model, factory=factory, trust_pickle=trust)
    return loaded.source, False, module_facts(loaded.module)
