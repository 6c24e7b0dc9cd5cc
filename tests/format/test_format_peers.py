"""Each peer's own installed package, over a thousand tensors, bit for bit.

What a peer makes of a tensor whose amax is below 1.6e-32 is left out, as `SMALLEST_SCALE` says: torchao and
ModelOpt yield NaN for an all-zero tensor. compressed-tensors and ModelOpt round 16-bit weights
in 16 bits at some steps; this package widens first, so they are given the widened weight.
"""

from __future__ import annotations

import torch
from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4
from compressed_tensors.quantization.quant_scheme import NVFP4
from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
from kinds_of_tensors import as_bytes, tensors
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

from nvfp4_trt import format as nvfp4

COUNT = 1050


def _equal(name, ours, theirs):
    for part, a, b in zip(("codes", "block scales", "scale"), ours, theirs, strict=True):
        assert torch.equal(as_bytes(a), as_bytes(b)), f"{name}: {part} differ"


def _tensors():
    return tensors(COUNT, without=("all-zero",))


def test_torchao():
    for name, original in _tensors():
        x = original.float() if original.dtype == torch.float16 else original  # it takes no fp16
        scale = per_tensor_amax_to_scale(x.abs().max().float())
        theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale)
        ours = nvfp4.pack_weight(original, nvfp4.TORCHAO)
        _equal(name, ours, (theirs.qdata, theirs.scale, theirs.per_tensor_scale))


def test_torchao_with_a_single_level():
    for name, original in tensors(COUNT):
        x = original.float() if original.dtype == torch.float16 else original
        theirs = NVFP4Tensor.to_nvfp4(x)
        _equal(name, (*nvfp4.quantize(original, None, nvfp4.TORCHAO), x), (theirs.qdata, theirs.scale, x))


def test_torchao_yields_nan_where_zeros_are_given():
    """The one difference: should torchao mend it, the rule's docstring is to be mended too."""
    x = torch.zeros(2, 32)
    theirs = NVFP4Tensor.to_nvfp4(x, per_tensor_scale=per_tensor_amax_to_scale(x.abs().max()))
    assert theirs.dequantize().isnan().all()
    packed, block_scale, scale = nvfp4.pack_weight(x, nvfp4.TORCHAO)
    assert not nvfp4.dequantize(packed, block_scale, scale).any()


def test_modelopt():
    for name, x in _tensors():
        quantized, block_scale, scale = NVFP4QTensor.quantize(x.float(), nvfp4.BLOCK)
        _equal(name, nvfp4.pack_weight(x, nvfp4.MODELOPT), (quantized._quantized_data, block_scale, scale))


def test_modelopt_yields_nan_where_zeros_are_given():
    _, block_scale, _ = NVFP4QTensor.quantize(torch.zeros(2, 32), nvfp4.BLOCK)
    assert block_scale.float().isnan().all()
    packed, block_scale, scale = nvfp4.pack_weight(torch.zeros(2, 32), nvfp4.MODELOPT)
    assert not nvfp4.dequantize(packed, block_scale, scale).any()


def _compressed_tensors(x: torch.Tensor):
    inverse = generate_gparam(x.min(), x.max())
    blocks = x.unflatten(-1, (-1, nvfp4.BLOCK))
    block_scale, _ = calculate_qparams(blocks.amin(-1), blocks.amax(-1), NVFP4["weights"], global_scale=inverse)
    packed = quantize_and_pack_fp4(x.clone(), block_scale, global_scale=inverse)
    return packed, block_scale.to(torch.float8_e4m3fn), inverse


def test_compressed_tensors():
    for name, x in tensors(COUNT):  # all-zero tensors too
        packed, block_scale, inverse = _compressed_tensors(x.float())
        _equal(name, nvfp4.pack_weight(x, nvfp4.COMPRESSED_TENSORS), (packed, block_scale, 1 / inverse))


def test_dequantizing_agrees_with_torchao_to_the_last_bit_but_one():
    """torchao multiplies the two scales first; the order here rounds once less."""
    for name, x in _tensors():
        packed, block_scale, scale = nvfp4.pack_weight(x, nvfp4.TORCHAO)
        ours = nvfp4.dequantize(packed, block_scale, scale)
        wide = x.float()
        theirs = NVFP4Tensor.to_nvfp4(wide, per_tensor_scale=scale).dequantize(torch.float32)
        torch.testing.assert_close(ours, theirs, rtol=2.0**-22, atol=0, msg=name)
