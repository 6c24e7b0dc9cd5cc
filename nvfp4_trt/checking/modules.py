"""A torch module → the facts of its layers, as `export` would meet them; no weight is read."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from nvfp4_trt.checking.facts import Codes, Facts, Operand, Window
from nvfp4_trt.quantization.convert import open_attention
from nvfp4_trt.quantization.select import dtype_name, is_linear, listed, refusal, weight_nk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nvfp4_trt.layers import Layer


def module_facts(module: nn.Module) -> Iterator[Facts]:
    """Yield the facts of every layer that has a weight and a GEMM or a convolution, in module order.

    Args:
        module: it stays as it is; what is looked at is a copy without data.
    """
    root = open_attention(_outline(module))
    for name, child in listed(root).items():
        yield _linear(name, child) if is_linear(child) else _other(name, child)


def layer_facts(layers: Iterable[Layer]) -> Iterator[Facts]:
    """Yield the facts of the layers of a model that is quantized already; embeddings have no GEMM."""
    for layer in layers:
        if layer.kind == "Embedding":
            continue
        codes = Codes(portable=True) if layer.is_fp4 else None
        dtype = "float8e4m3fn" if layer.is_fp8 else "?"
        matrix = layer.shape if len(layer.shape) == 2 else None  # noqa: PLR2004
        yield Facts(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            dtype="?" if layer.quantized else layer.precision,
            n=matrix and matrix[0],
            k=matrix and matrix[1],
            left=Operand(False, "?") if layer.weight_only else Operand(False, dtype, codes=codes),
            right=Operand(True, dtype, shape=matrix and matrix[::-1], codes=codes),
            quantized_file=True,
            told=layer.reason,
            empty=0 in layer.shape,
        )


def _outline(module: nn.Module) -> nn.Module:
    """Copy a module with parameters that have no data; those that are shared stay shared."""
    twins: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, twins)


def _linear(name: str, module: nn.Module) -> Facts:
    n, k = weight_nk(module).shape
    return Facts(
        name=name,
        kind=type(module).__name__,
        shape=(n, k),
        dtype=dtype_name(module),
        n=n,
        k=k,
        left=Operand(constant=False, dtype="?"),
        right=Operand(constant=True, dtype=dtype_name(module), shape=(k, n)),
        told=refusal(module) or "",
        empty=0 in (n, k),
    )


def _other(name: str, module: nn.Module) -> Facts:
    weight = next(module.parameters())
    shape = tuple(weight.shape)
    facts = Facts(
        name=name, kind=type(module).__name__, shape=shape, dtype=dtype_name(module), told=refusal(module) or ""
    )
    if not isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001 (their only common base)
        return facts
    window = Window(
        kernel=tuple(module.kernel_size),
        strides=tuple(module.stride),
        dilations=tuple(module.dilation),
        padded=module.padding != "valid" and any(p != 0 for p in module.padding),
        groups=module.groups,
        transposed=module.transposed,
    )
    k = weight[0].numel()
    return replace(facts, window=window, n=shape[0], k=k)
