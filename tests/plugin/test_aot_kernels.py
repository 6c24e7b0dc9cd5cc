"""The kernels in ahead-of-time form, compiled: entries, parameters, registers, the FP4 instruction."""

import itertools

import pytest

from nvfp4_trt.kernels.disassembly import find_fp4_opcode, inspect_cubin
from nvfp4_trt.kernels.launch import Device, quantize_launch
from nvfp4_trt.plugin.aot_kernels import INPUTS, NUMBERS, OUTPUTS, gemm_cubin, quantize_cubin

pytestmark = pytest.mark.long


def contents(cubin, folder):
    (folder / "kernel.cubin").write_bytes(cubin)
    return inspect_cubin(folder / "kernel.cubin")


@pytest.mark.parametrize("kernel", ["quantize", "norm_quantize", "activation_quantize"])
def test_a_quantizing_kernel(tmp_path, kernel):
    """It has the entries that the launch rules choose."""
    found = contents(quantize_cubin(kernel, "bf16", 120), tmp_path)
    device = Device(148, 227 * 1024)
    shapes = itertools.product(("token", "static", "single"), (1, 64, 700, 8192), (64, 1024, 4096, 16384))
    entries = {quantize_launch(kernel, scaling, "bf16", m, k, device).entry for scaling, m, k in shapes}
    assert entries <= set(found)
    assert {each.params for each in found.values()} == {len(INPUTS) + len(NUMBERS) + len(OUTPUTS)}


def test_the_gemm(tmp_path):
    cubin, tile = gemm_cubin("64x128x256", "f16", 120)
    found = contents(cubin, tmp_path)
    assert set(found) == {"gemm_kernel"}
    # Seven inputs, six numbers, the output, and two more that nothing reads.
    assert found["gemm_kernel"].params == 16
    assert find_fp4_opcode(found, 120)
    assert (tile.block_m, tile.block_n, tile.block_k) == (64, 128, 256)
