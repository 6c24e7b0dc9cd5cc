"""What the product leans on in TensorRT-RTX: a release that changes one of these facts fails here."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from tiny_networks import Network, fp8_linear, linear, rows_of

import nvfp4_trt
from nvfp4_trt.errors import ParseFailedError
from nvfp4_trt.passes import MaximumApart, block_quantizers, lower
from nvfp4_trt.portable import load
from nvfp4_trt.quantization.select import MIN_K

pytestmark = pytest.mark.long


def gemms(rows):
    return [row for row in rows if row.type == "gemm"]


def swizzles(rows):
    """Return the kernels that bring an activation's block scales into tiles of 32 x 4 x 4."""
    return [
        row
        for row in rows
        if row.type == "kgen" and any(o.dtype == "FP8" and len(o.dims) == 5 for o in row.outputs)
    ]


@pytest.mark.parametrize("shape", [(8, 64), (2, 8, 64)], ids=str)
def test_a_linear_layer_is_one_fp4_gemm_and_the_record_says_so(tmp_path, shape):
    rows = rows_of(tmp_path, linear(shape))
    (gemm,) = gemms(rows)
    assert gemm.is_fp4_gemm
    assert gemm.reads_fp4_weight
    assert "y" in gemm.onnx
    (weight,) = (o for o in gemm.constants if o.dtype == "FP4E2M1")
    assert weight.dims == (64, 64)
    assert weight.nbytes == 64 * 64 // 2
    assert {o.dtype for o in gemm.inputs} == {"FP4E2M1", "FP8"}
    assert len(swizzles(rows)) == 1


@pytest.mark.parametrize("k", [16, 32, 48, 64, 80])
def test_k_below_32_is_silently_not_fp4(tmp_path, k):
    (gemm,) = gemms(rows_of(tmp_path, linear((8, k))))
    assert gemm.is_fp4_gemm == (k >= MIN_K)


@pytest.mark.parametrize("where", ["before_weight", "before_activation"])
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_an_operator_between_is_silently_not_fp4(tmp_path, where, op):
    rows = rows_of(tmp_path, linear(**{where: op}))
    assert gemms(rows)
    assert not any(row.is_fp4_gemm for row in rows)


def test_a_run_time_scale_is_refused(tmp_path):
    with pytest.raises(ParseFailedError, match="Scale input must be an initializer"):
        rows_of(tmp_path, linear(run_time=True))


@pytest.mark.parametrize("shape", [(64,), (2, 2, 8, 64)], ids=str)
def test_ranks_other_than_2_and_3_are_refused(tmp_path, shape):
    with pytest.raises(ParseFailedError, match="must be 2D or 3D"):
        rows_of(tmp_path, linear(shape))


def test_n_1_is_no_gemm(tmp_path):
    assert not gemms(rows_of(tmp_path, linear(n=1)))


def test_odd_n_is_fp4_from_a_run_time_operand(tmp_path):
    (gemm,) = gemms(rows_of(tmp_path, linear(n=33)))
    assert gemm.is_fp4_gemm
    assert not gemm.reads_fp4_weight


def test_layers_on_one_quantizer_share_its_kernels(tmp_path):
    net = Network()
    x = net.quantized("x", net.constant("scale", np.float32(1)))
    names = [net.matmul(x, net.quantized_weight(64, 64, f"w{name}"), name) for name in "qkv"]
    rows = rows_of(tmp_path, net.model((8, 64), names))
    assert all(row.is_fp4_gemm for row in gemms(rows))
    assert {name for row in gemms(rows) for name in row.onnx} >= set(names)
    assert len(swizzles(rows)) == 1
    assert sum("x/quantize" in row.onnx for row in rows) == 1


@pytest.mark.parametrize("weights", [1, 2])
def test_products_of_one_input_and_one_weight_are_one_gemm_with_one_name(tmp_path, weights):
    """Of two nodes that dequantize the same codes, too."""
    net = Network()
    x = net.quantized("x", net.constant("scale", np.float32(1)))
    held = [net.quantized_weight(64, 64, f"w{index}") for index in range(weights)]
    if weights > 1:
        net.nodes = [each for each in net.nodes if each.name != "w1/values"]
        held[1] = net.add("DequantizeLinear", ["w0", "w0/scales"], "w1/values", axis=-1, block_size=16)
    names = [net.matmul(x, held[index % weights], name) for index, name in enumerate(("y", "z"))]
    (gemm,) = gemms(rows_of(tmp_path, net.model((8, 64), names)))
    assert gemm.is_fp4_gemm
    assert len({"y", "z"} & set(gemm.onnx)) == 1


@pytest.mark.parametrize(
    ("per_channel", "scaling"), [(False, "static"), (True, "static"), (True, "token"), (True, "tensor")]
)
def test_fp8_on_both_sides_is_an_fp8_gemm(tmp_path, per_channel, scaling):
    """A weight's scales for each channel, and a run-time scale outside of the quantizer, keep it one."""
    rows = rows_of(tmp_path, fp8_linear((2, 8, 64), per_channel=per_channel, scaling=scaling))
    (gemm,) = gemms(rows)
    assert gemm.is_fp8_gemm
    assert gemm.reads_fp8_weight
    assert not gemm.is_fp4_gemm
    assert "y" in gemm.onnx


def test_a_scale_for_each_token_costs_no_more_kernels_in_fp8_than_scales_for_channels_alone(tmp_path):
    kernels = [
        sum(row.is_launch for row in rows_of(tmp_path, fp8_linear(scaling=scaling)))
        for scaling in ("static", "token")
    ]
    assert kernels[1] <= kernels[0]


@pytest.mark.parametrize(("k", "n"), [(16, 64), (24, 64), (64, 1), (64, 33)])
def test_fp8_takes_shapes_that_fp4_does_not(tmp_path, k, n):
    (gemm,) = gemms(rows_of(tmp_path, fp8_linear((8, k), n)))
    assert gemm.is_fp8_gemm


def test_an_fp8_weight_with_an_unquantized_activation_is_no_fp8_gemm(tmp_path):
    rows = rows_of(tmp_path, fp8_linear(weight_only=True))
    assert not any(row.is_fp8_gemm for row in rows)
    assert any(row.reads_fp8_weight for row in rows)


@pytest.mark.parametrize("op", ["Add", "Mul", "Relu"])
def test_an_fp4_gemm_takes_nothing_along(tmp_path, op):
    net = Network()
    product = net.matmul(
        net.quantized("x", net.constant("scale", np.float32(1))), net.quantized_weight(64, 64), "p"
    )
    other = [net.constant("row", np.arange(64, dtype=np.float32))] if op != "Relu" else []
    rows = rows_of(tmp_path, net.model((128, 64), [net.add(op, [product, *other], "y")]))
    (gemm,) = gemms(rows)
    assert gemm.is_fp4_gemm
    assert "y" not in gemm.onnx


@pytest.fixture(scope="module", params=["float32", "float16"])
def bert(request, tmp_path_factory):
    """A BERT of two layers with its pooler, built with every recipe: the audits by recipe."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256, vocab_size=200
    )
    torch.manual_seed(0)
    module = BertModel(config).eval()
    ids = torch.randint(0, 200, (2, 16))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    folder = tmp_path_factory.mktemp("bert")
    audits = {}
    for recipe in ("w4a4-static", "w4a4-dynamic-token", "w4a4-dynamic"):
        exported = nvfp4_trt.export(
            module,
            folder / f"{recipe}.onnx",
            recipe=recipe,
            inputs=[batch],
            dynamic=["batch,sequence"],
            dtype=request.param,
        )
        audits[recipe] = nvfp4_trt.build(
            exported, folder / f"{recipe}.engine", backend="tensorrt_rtx", optimize="off"
        ).audit
    return audits


QUANTIZED_ACTIVATIONS = 4 * 2 + 1
"""In each layer the input of query, key and value, of both dense layers and of the attention's; the pooler's."""


def test_bert_is_all_fp4(bert):
    for audit in bert.values():
        assert audit.counts() == (6 * 2 + 1, 6 * 2 + 1)


def test_a_scale_for_each_token_costs_one_kernel_behind_the_embeddings(bert):
    """Their sum, its norm and the amax are two kernels; in the layers, the amax is part of the norm's."""
    assert bert["w4a4-dynamic-token"].kernels <= bert["w4a4-static"].kernels + 1


def test_a_scale_for_each_tensor_costs_two_kernels_an_activation(bert):
    extra = bert["w4a4-dynamic"].kernels - bert["w4a4-static"].kernels
    assert extra <= 2 * QUANTIZED_ACTIVATIONS + 1


class Mlp(torch.nn.Module):
    """A residual block with a norm and a GELU between two linears."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = torch.nn.LayerNorm(64), torch.nn.Linear(64, 256), torch.nn.Linear(256, 64)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


@pytest.fixture(scope="module")
def mlps(tmp_path_factory):
    """Two of them, in fp16 and per token."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("mlps") / "mlps.onnx"
    x = torch.randn(2, 8, 64).half()
    nvfp4_trt.export(
        torch.nn.Sequential(Mlp(), Mlp()).half(), path, inputs=[{"input": x}], dynamic=["batch,sequence"]
    )
    return path


def lowered_rows(folder, path, profile=None, **options):
    model, _ = load(path)
    lower(model, **options)
    folder.mkdir()
    return rows_of(folder, ir.to_proto(model), profile)


def test_an_activation_computed_twice_is_never_written(tmp_path, mlps, monkeypatch):
    profile = {"input": ((1, 1, 64), (8, 128, 64), (32, 512, 64))}

    def written(folder):
        """Return how many tensors as wide as the hidden layer kernels that are no GEMM write in 16 bits."""
        rows = lowered_rows(tmp_path / folder, mlps, profile, form="blocks")
        outputs = [o for row in rows if row.type == "kgen" for o in row.outputs]
        launches = sum(row.is_launch for row in rows)
        return launches, sum(o.dtype == "Half" and o.dims[-1] == 256 for o in outputs)

    launches, twice = written("twice")
    assert twice == 0
    monkeypatch.setattr(MaximumApart, "run", lambda *_: 0)
    assert written("once") == (launches, 2)


def test_a_maximum_over_four_is_part_of_a_kernel_and_one_over_eight_ends_it(tmp_path, mlps, monkeypatch):
    profile = {"input": ((1, 1, 64), (8, 128, 64), (32, 512, 64))}
    fours = lowered_rows(tmp_path / "fours", mlps, profile, form="blocks")
    monkeypatch.setattr(block_quantizers, "QUARTER", 8)
    eights = lowered_rows(tmp_path / "eights", mlps, profile, form="blocks")
    quantizers = 4
    assert sum(row.is_launch for row in eights) == sum(row.is_launch for row in fours) + quantizers


def test_a_kernel_that_finds_a_rows_maximum_writes_no_codes(tmp_path, mlps):
    """So that a scale for each token is a kernel more than a constant one, wherever a constant's is one kernel."""
    profile = {"input": ((1, 1, 64), (8, 128, 64), (32, 512, 64))}
    rows = lowered_rows(tmp_path / "blocks", mlps, profile, form="blocks")
    reducing = [row for row in rows if any(name.endswith("PerTokenScale/ReduceMax") for name in row.onnx)]
    writing = [row for row in rows if any(o.is_fp4 for o in row.outputs)]
    assert len(reducing) == len(writing) == 4
    assert not [row for row in reducing if row in writing]


def test_rows_padded_to_whole_tiles_spare_a_kernel_a_quantizer(tmp_path, mlps):
    extents = {"batch": 3, "sequence": 100}
    plain, padded = (
        lowered_rows(tmp_path / str(pad), mlps, extents=extents, pad_rows=pad) for pad in (False, True)
    )
    assert all(row.is_fp4_gemm for row in (*gemms(plain), *gemms(padded)))
    assert len(gemms(padded)) == len(gemms(plain)) == 4
    assert sum(row.is_launch for row in padded) <= sum(row.is_launch for row in plain) - 4
