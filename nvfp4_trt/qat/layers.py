"""The layers of a model in training: what they were, computing what they will be once they are converted.

A layer keeps its identity, its parameters and the names in its state dict: its class alone is changed, for one
that derives from both a class of this file and its own, as `torch.nn.utils.parametrize` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from nvfp4_trt.quantization import ops
from nvfp4_trt.quantization.attention import ProjectedAttention, in_projections
from nvfp4_trt.quantization.select import is_conv1d

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvfp4_trt.quantization import ActivationQuantizer


class FakeQuantizedLinear(nn.Module):
    """The arithmetic of `quantization.QuantLinear` on a weight that is still trained; it holds no parameter.

    Args:
        input_quantizer: of the activation; its scale is no part of the state dict.
        rule: how the weight's block scales are rounded.
        transposed: whether the weight is stored as `[K, N]`.
    """

    def __init__(self, input_quantizer: ActivationQuantizer, rule: str, *, transposed: bool = False) -> None:
        super().__init__()
        self.input_quantizer = input_quantizer
        self.rule = rule
        self.transposed = transposed

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `[..., N]` for `x` `[..., K]`, in the dtype of `x`, or autocast's."""
        weight_nk = weight.t() if self.transposed else weight
        values: Tensor = ops.fake_quantize_weight(weight_nk, x.dtype, self.rule)
        return F.linear(self.input_quantizer(x), values, None if bias is None else bias.to(x.dtype))

    def extra_repr(self) -> str:
        """Show the rule in `print(module)`."""
        return f"weight rule={self.rule}"


class Prepared(nn.Module):
    """What the changed layers have in common: they can be given back the class they had."""

    original: ClassVar[type[nn.Module]]
    changed: ClassVar[type[Prepared]]
    added: ClassVar[str] = "fake_quantized"
    """The name of the submodule that the layer has been given."""

    def restore(self) -> None:
        """Make the layer what it was."""
        del self._modules[self.added]
        self.__class__ = self.original  # type: ignore[assignment]

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        # A class that is made at run time has no name to be found by: copies and pickles make it again.
        return _remade, (self.changed, self.original), self.__getstate__()  # type: ignore[no-untyped-call]


class PreparedLinear(Prepared):
    """A linear layer, or Hugging Face's `Conv1D`."""

    fake_quantized: FakeQuantizedLinear
    weight: Tensor
    bias: Tensor | None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Linear names it)
        """Return what the converted layer will: see `FakeQuantizedLinear`."""
        out: Tensor = self.fake_quantized(input, self.weight, self.bias)
        return out


class PreparedEmbedding(Prepared):
    """An embedding that shares its weight with a prepared layer: its rows are those of the packed weight."""

    fake_quantized: FakeQuantizedRows
    weight: Tensor
    padding_idx: int | None
    scale_grad_by_freq: bool
    sparse: bool

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (as nn.Embedding names it)
        """Return rows `[..., K]` of the integer ids `input` `[...]`."""
        values: Tensor = self.fake_quantized(self.weight)
        return F.embedding(
            input,
            values,
            self.padding_idx,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )


class FakeQuantizedRows(nn.Module):
    """The values of `quantization.QuantEmbedding`, of a weight that is still trained.

    Args:
        rule: how the weight's block scales are rounded.
    """

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, weight: Tensor) -> Tensor:
        """Return the values of `weight` `[V, K]` in its own dtype."""
        values: Tensor = ops.fake_quantize_weight(weight, weight.dtype, self.rule)
        return values


class PreparedAttention(Prepared, ProjectedAttention):
    """An `nn.MultiheadAttention`, opened; its input projections stay the one parameter that they were."""

    fake_quantized: nn.ModuleDict

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """What torch's encoder layers look at to see that their fused path is not for this one."""
        return False

    def q_proj(self, x: Tensor) -> Tensor:
        """Project queries `[..., K]`."""
        return self._project("q_proj", x)

    def k_proj(self, x: Tensor) -> Tensor:
        """Project keys `[..., K]`."""
        return self._project("k_proj", x)

    def v_proj(self, x: Tensor) -> Tensor:
        """Project values `[..., K]`."""
        return self._project("v_proj", x)

    def _project(self, name: str, x: Tensor) -> Tensor:
        weight, bias = in_projections(self)[name]  # type: ignore[arg-type]
        if name not in self.fake_quantized:  # the recipe leaves it as it is
            return F.linear(x, weight, bias)
        out: Tensor = self.fake_quantized[name](x, weight, bias)
        return out


def prepare_linear(layer: nn.Module, quantizer: ActivationQuantizer, rule: str) -> None:
    """Change a linear layer, or Hugging Face's `Conv1D`."""
    _change(layer, PreparedLinear, FakeQuantizedLinear(quantizer, rule, transposed=is_conv1d(layer)))


def prepare_embedding(layer: nn.Module, rule: str) -> None:
    """Change an embedding."""
    _change(layer, PreparedEmbedding, FakeQuantizedRows(rule))


def prepare_attention(
    layer: nn.MultiheadAttention, quantizers: Mapping[str, ActivationQuantizer], rule: str
) -> None:
    """Change an attention; `quantizers` are those of its input projections that will be NVFP4."""
    projections = {name: FakeQuantizedLinear(each, rule) for name, each in quantizers.items()}
    _change(layer, PreparedAttention, nn.ModuleDict(projections))


def _change(layer: nn.Module, to: type[Prepared], added: nn.Module) -> None:
    layer.__class__ = _class(to, type(layer))
    layer.add_module(Prepared.added, added.train(layer.training))


_classes: dict[tuple[type, type], type[Prepared]] = {}


def _class(changed: type[Prepared], original: type[nn.Module]) -> type[Prepared]:
    key = changed, original
    if key not in _classes:
        members = {"__module__": changed.__module__, "original": original, "changed": changed}
        _classes[key] = type(f"Prepared{original.__name__}", key, members)
    return _classes[key]


def _remade(changed: type[Prepared], original: type[nn.Module]) -> Prepared:
    made = _class(changed, original)
    return made.__new__(made)
