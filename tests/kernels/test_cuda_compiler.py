"""CUDA C++ to cubins on a machine without a GPU."""

import pytest
from tiny_kernels import BROKEN, SUM, TYPES

from nvfp4_trt.errors import KernelCompileError
from nvfp4_trt.kernels.cuda_compiler import compile_cuda, nvrtc_version
from nvfp4_trt.kernels.disassembly import inspect_cubin
from nvfp4_trt.kernels.sources import SMS

HEADERS = {"types.cuh": TYPES}


def compile_sum(sm=90, dtype=0):
    return compile_cuda(SUM, "sum.cu", HEADERS, sm, {"NVFP4_T": dtype})


@pytest.mark.parametrize("sm", SMS)
def test_every_architecture(sm, tmp_path):
    path = tmp_path / "sum.cubin"
    path.write_bytes(compile_sum(sm))
    assert list(inspect_cubin(path)) == ["add_all", "scale"]


def test_the_same_source_gives_the_same_bytes_in_any_folder(tmp_path, monkeypatch):
    first = compile_sum()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "types.cuh").write_text("#error a header that lies about is not the one that was given\n")
    again = compile_sum()
    assert first == again
    assert str(tmp_path).encode() not in again


def test_defines_reach_the_source():
    assert len({compile_sum(dtype=dtype) for dtype in (0, 1, 2)}) == 3


def test_products_and_sums_are_rounded_apart(tmp_path):
    path = tmp_path / "sum.cubin"
    path.write_bytes(compile_sum())
    scale = inspect_cubin(path)["scale"].opcodes
    assert scale["FMUL"] == scale["FADD"] == 1
    assert scale["FFMA"] == 0


def test_a_source_that_does_not_compile():
    with pytest.raises(KernelCompileError, match=r'(?s)broken\.cu does not compile for sm_90:.*"no_such_name"'):
        compile_cuda(BROKEN, "broken.cu", {}, 90, {})


def test_a_header_that_was_not_given():
    with pytest.raises(KernelCompileError, match=r"types\.cuh"):
        compile_cuda(SUM, "sum.cu", {}, 90, {"NVFP4_T": 0})


def test_an_architecture_that_the_compiler_has_not():
    with pytest.raises(KernelCompileError, match=r"cannot compile sum\.cu for sm_12: NVRTC_ERROR_INVALID_OPTION"):
        compile_sum(sm=12)


def test_the_version():
    assert int(nvrtc_version().split(".")[0]) >= 13
