import onnx_ir as ir
import pytest
from both_sides import CASES, around, assert_leaves_alone, assert_same_bits, prefix

from nvfp4_trt.passes import GemmToMatMul
from nvfp4_trt.portable import find_sites


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_meaning_is_unchanged(portable, case):
    assert_same_bits(around(GemmToMatMul, portable(*case)))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_site_is_a_matmul_afterwards(portable, case):
    model = prefix(GemmToMatMul, portable(*case).path)
    layers = [site.layer for site in find_sites(model.graph)]
    gemms = sum(site.gemm.op_type == "Gemm" for site in find_sites(model.graph))
    assert GemmToMatMul().run(model) == gemms
    assert [site.layer for site in find_sites(model.graph)] == layers
    assert {site.gemm.op_type for site in find_sites(model.graph)} == {"MatMul"}


def test_rank_2_with_bias_is_what_torch_writes_as_gemm(portable):
    run = around(GemmToMatMul, portable("rows"))
    assert run.changes == 2
    assert sum(node.op_type == "Add" for node in run.model.graph) == 2


def test_a_gemm_on_another_weight_is_left(portable):
    """`mlp` has an odd-K layer and an N = 1 head in fp32: Gemms with no NVFP4 weight."""
    run = around(GemmToMatMul, portable("mlp"))
    assert run.changes == 2
    assert sum(node.op_type == "Gemm" for node in run.model.graph) == 2


@pytest.mark.parametrize(
    "attribute", [ir.AttrFloat32("alpha", 0.5), ir.AttrFloat32("beta", 0.0), ir.AttrInt64("transA", 1)], ids=str
)
def test_a_gemm_that_does_more_is_left(portable, attribute):
    model = prefix(GemmToMatMul, portable("rows").path)
    for site in find_sites(model.graph):
        site.gemm.attributes[attribute.name] = attribute
    assert_leaves_alone(GemmToMatMul, model)
