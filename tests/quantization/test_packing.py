"""Packing in chunks on several threads against packing at once."""

import pytest
import torch
from torch import nn

from nvfp4_trt import format as fmt
from nvfp4_trt.errors import NonfiniteWeightError
from nvfp4_trt.loading import Spill
from nvfp4_trt.quantization import packing

RULES = ["spec", "torchao", "modelopt", "compressed-tensors"]


def same(ours, theirs):
    return all(
        torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_bits_are_those_of_packing_at_once(monkeypatch, tmp_path, rule, dtype):
    monkeypatch.setattr(packing, "_CHUNK", 64 * 37)
    torch.manual_seed(0)
    weight = torch.randn(509, 64).mul_(0.02).to(dtype)
    weight[3], weight[400, :16] = 0, 0
    expected = fmt.pack_weight(weight, fmt.scale_rule(rule))
    with packing.every_core() as pool, Spill(tmp_path / "x") as spill:
        stored = spill.cast(weight.double(), dtype)
        for form in (weight, weight.t().contiguous().t(), nn.Parameter(weight), stored):
            assert same(packing.pack(form, fmt.scale_rule(rule), "w", pool), expected)


def test_zeros_and_one_row():
    with packing.every_core() as pool:
        for weight in (torch.zeros(4, 32), torch.randn(1, 16)):
            assert same(packing.pack(weight, fmt.SPEC, "w", pool), fmt.pack_weight(weight))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_counted(bad):
    weight = torch.ones(600, 64)
    weight[[5, 599], [0, 63]] = bad
    with (
        packing.every_core() as pool,
        pytest.raises(NonfiniteWeightError, match=r"the weight a\.weight holds 2") as caught,
    ):
        packing.pack(weight, fmt.SPEC, "a.weight", pool)
    assert "--exclude 'a'" in caught.value.hint


def test_torchs_own_threads_are_as_before():
    before = torch.get_num_threads()
    with packing.every_core() as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
