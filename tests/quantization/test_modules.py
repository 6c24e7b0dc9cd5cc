import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nvfp4_trt import format as fmt
from nvfp4_trt.quantization import ActivationQuantizer, PackedWeight, QuantEmbedding, QuantLinear
from nvfp4_trt.recipe import ActivationScaling

SCALINGS = list(ActivationScaling)


def quantizer(scaling, amax=4.0):
    static = scaling is ActivationScaling.STATIC
    return ActivationQuantizer(scaling, torch.tensor(amax / fmt.TWO_LEVEL_MAX) if static else None)


def pack(weight):
    return PackedWeight(*fmt.pack_weight(weight))


def linear(scaling=ActivationScaling.DYNAMIC, n=48, k=128, dtype=torch.float32, *, bias=True, seed=0):
    torch.manual_seed(seed)
    weight, offset = torch.randn(n, k).to(dtype), torch.randn(n).to(dtype) if bias else None
    return QuantLinear(pack(weight), offset, quantizer(scaling), dtype), weight, offset


def sqnr(reference, got):
    return float(10 * torch.log10(reference.square().sum() / (reference - got).square().sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_layer_multiplies_dequantized_values(scaling, dtype):
    layer, weight, bias = linear(scaling, dtype=dtype)
    x = torch.randn(2, 3, 128).to(dtype)
    scale = {
        ActivationScaling.DYNAMIC: fmt.per_tensor_scale(x),
        ActivationScaling.DYNAMIC_TOKEN: fmt.per_token_scale(x),
        ActivationScaling.STATIC: layer.input_quantizer.scale,
    }.get(scaling)
    seen = x
    if scaling is not ActivationScaling.NONE:
        seen = fmt.dequantize(*fmt.quantize(x, scale), scale, dtype)
    packed, block_scale, per_tensor = pack(weight)
    y = layer(x)
    assert y.dtype == dtype
    assert torch.equal(y, F.linear(seen, fmt.dequantize(packed, block_scale, per_tensor, dtype), bias))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_quality_of_a_layer_on_random_data(scaling, seed):
    """e2m1's step gives about 20 dB for each operand: 3 dB less where both are quantized."""
    layer, weight, bias = linear(scaling, n=128, k=256, seed=seed)
    x = torch.randn(64, 256)
    quality = sqnr(F.linear(x, weight, bias), layer(x))
    assert (18 if scaling is ActivationScaling.NONE else 15) < quality < 26


def test_called_as_nn_linear_is():
    layer, _, _ = linear()
    x = torch.randn(4, 128)
    assert torch.equal(layer(input=x), layer(x))
    assert (layer.in_features, layer.out_features) == (128, 48)
    assert layer.weight.shape == (48, 128)
    assert "in_features=128, out_features=48, bias=True" in repr(layer)
    assert "(input_quantizer): ActivationQuantizer(dynamic)" in repr(layer)


def test_without_bias():
    layer, _, _ = linear(bias=False)
    assert layer.bias is None
    assert torch.equal(layer(torch.zeros(1, 128)), torch.zeros(1, 48))


def test_a_quantizer_refuses_a_scale_that_its_mode_has_no_use_for():
    with pytest.raises(ValueError, match="static"):
        ActivationQuantizer(ActivationScaling.STATIC)
    with pytest.raises(ValueError, match="dynamic"):
        ActivationQuantizer(ActivationScaling.DYNAMIC, torch.ones(()))


BUFFERS = {
    "weight_packed": torch.uint8,
    "weight_block_scale": torch.float8_e4m3fn,
    "weight_per_tensor_scale": torch.float32,
    "input_quantizer.scale": torch.float32,
}


@pytest.mark.parametrize(
    "cast",
    [
        nn.Module.half,
        nn.Module.bfloat16,
        nn.Module.double,
        lambda m: m.to(torch.float16),
        lambda m: m.to(dtype=torch.bfloat16, device="cpu"),
        lambda m: m.to("cpu"),
    ],
    ids=["half", "bfloat16", "double", "to-dtype", "to-both", "to-device"],
)
def test_casting_keeps_packed_buffers(cast):
    layer, _, _ = linear(ActivationScaling.STATIC)
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    root = cast(nn.Sequential(layer))
    after = dict(root[0].named_buffers())
    assert {name: buffer.dtype for name, buffer in after.items()} == BUFFERS
    for name, buffer in after.items():
        assert torch.equal(buffer.float(), before[name].float())
    assert root[0].weight.dtype == root[0].bias.dtype


def test_a_cast_layer_runs_in_the_new_dtype():
    layer, _, _ = linear()
    assert layer.half()(torch.randn(2, 128).half()).dtype == torch.float16


def test_moving_to_another_device_moves_all():
    layer, _, _ = linear(ActivationScaling.STATIC)
    moved = copy.deepcopy(layer).to("meta")
    assert {name: buffer.dtype for name, buffer in moved.named_buffers()} == BUFFERS
    assert all(tensor.is_meta for tensor in (*moved.buffers(), *moved.parameters()))


@pytest.mark.parametrize("scaling", [ActivationScaling.STATIC, ActivationScaling.DYNAMIC])
def test_state_dict_round_trip(scaling, tmp_path):
    layer, _, _ = linear(scaling)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other, _, _ = linear(scaling, seed=5)
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    x = torch.randn(3, 128)
    assert torch.equal(other(x), layer(x))


def test_a_deep_copy_computes_the_same_from_its_own_memory():
    layer, _, _ = linear()
    copied = copy.deepcopy(layer)
    x = torch.randn(3, 128)
    assert torch.equal(copied(x), layer(x))
    assert copied.weight_packed.data_ptr() != layer.weight_packed.data_ptr()


def test_an_embedding_reads_rows_of_a_packed_weight():
    torch.manual_seed(0)
    weight = torch.randn(40, 64)
    rows = QuantEmbedding(pack(weight), torch.float32)
    whole = rows.weight
    ids = torch.tensor([[0, 39, 7], [7, 7, 1]])
    assert torch.equal(rows(ids), whole[ids])
    assert torch.equal(rows(input=ids), whole[ids])
    assert sqnr(weight[ids], rows(ids)) > 15


def test_an_embeddings_rows_follow_a_cast():
    rows = QuantEmbedding(pack(torch.randn(40, 64)), torch.float32)
    assert rows.half()(torch.tensor([1])).dtype == torch.float16
    assert rows.bfloat16()(torch.tensor([1])).dtype == torch.bfloat16
