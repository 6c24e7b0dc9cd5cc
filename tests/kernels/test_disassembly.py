"""What a cubin is said to hold: against sources in which it can be counted."""

import subprocess
import sys
from collections import Counter

import pytest
from tiny_kernels import LOCAL_ARRAY, SUM, TYPES, gemm_sources

from nvfp4_trt.errors import DependencyMissingError, KernelCompileError, KernelNotFp4Error, KernelSpillsError
from nvfp4_trt.kernels import disassembly
from nvfp4_trt.kernels.cuda_compiler import compile_cuda
from nvfp4_trt.kernels.disassembly import Contents, check_contents, find_fp4_opcode, find_tool, inspect_cubin
from nvfp4_trt.kernels.sources import GEMM_SOURCE, SOURCES
from nvfp4_trt.kernels.triton_compiler import compile_gemm, tile_names

FP4_OPCODES = {
    100: "UTCOMMA.4X",
    103: "UTCOMMA.BLOCK16",
    120: "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X",
    121: "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X",
}


def inspect_bytes(folder, data):
    path = folder / "kernel.cubin"
    path.write_bytes(data)
    return inspect_cubin(path)


@pytest.mark.parametrize("sm", [90, 100, 120])
def test_entries_and_their_resources(tmp_path, sm):
    found = inspect_bytes(tmp_path, compile_cuda(SUM, "sum.cu", {"types.cuh": TYPES}, sm, {"NVFP4_T": 2}))
    total, scale = found["add_all"], found["scale"]
    assert (total.shared_bytes, total.max_threads, total.local_bytes, total.params) == (512, 128, 0, 1)
    assert (scale.shared_bytes, scale.max_threads, scale.local_bytes, scale.params) == (0, 0, 0, 1)
    assert 0 < scale.registers < total.registers <= 255
    assert scale.opcodes["LDG.E"] == scale.opcodes["STG.E"] == 1
    assert total.opcodes["BAR.SYNC.DEFER_BLOCKING"] == 1
    assert scale.opcodes["BAR.SYNC.DEFER_BLOCKING"] == 0


@pytest.mark.parametrize("sm", [90, 100, 120])
def test_local_memory_is_a_spill_on_blackwell(tmp_path, sm):
    found = inspect_bytes(tmp_path, compile_cuda(LOCAL_ARRAY, "gather.cu", {}, sm, {}))
    assert found["gather"].local_bytes == 256
    assert any(name.startswith("LDL") for name in found["gather"].opcodes)
    if sm == 90:
        check_contents("gather.cubin", "gather", sm, found)
        return
    with pytest.raises(KernelSpillsError, match=r"gather\.cubin: gather keeps 256 bytes"):
        check_contents("gather.cubin", "gather", sm, found)


def test_loads_from_local_memory_without_a_stack_are_a_spill():
    found = {"entry": Contents(Counter({"STL.64": 1, "LDL.64": 2}), 40, 0, 0, 0, 1)}
    with pytest.raises(KernelSpillsError, match="3 loads and stores"):
        check_contents("a.cubin", "quantize", 120, found)


@pytest.mark.parametrize("sm", FP4_OPCODES)
def test_the_gemm_is_fp4(tmp_path, sm):
    source = SOURCES / GEMM_SOURCE
    made = compile_gemm(source, tile_names(source)[0], "bf16", sm)
    found = inspect_bytes(tmp_path, made.cubin)
    opcode = find_fp4_opcode(found, sm)
    assert opcode == FP4_OPCODES[sm]
    assert found["gemm_kernel"].opcodes[opcode] > 0
    assert found["gemm_kernel"].params == len(made.params)
    check_contents("gemm.cubin", "gemm", sm, found)


@pytest.mark.parametrize("sm", [100, 120])
def test_a_gemm_of_another_type_is_refused(tmp_path, sm):
    source = gemm_sources(tmp_path / "sources") / GEMM_SOURCE
    found = inspect_bytes(tmp_path, compile_gemm(source, "32x32x32", "f32", sm).cubin)
    assert find_fp4_opcode(found, sm) is None
    with pytest.raises(KernelNotFp4Error, match=r"no FP4 tensor-core instruction; it has \w*MMA"):
        check_contents("gemm.cubin", "gemm", sm, found)
    check_contents("other.cubin", "other", sm, found)


@pytest.mark.parametrize(
    ("sm", "name", "is_fp4"),
    [
        (100, "UTCOMMA.4X", True),
        (103, "UTCOMMA.BLOCK16", True),
        (103, "UTCOMMA.2CTA.BLOCK16", True),
        (100, "UTCOMMA.2X", False),
        (100, "UTCHMMA", False),
        (120, "OMMA.SF.16864.F32.E2M1.E2M1.UE4M3.4X", True),
        (120, "OMMA.SF.16864.F32.E2M1.E2M1.E8.2X", False),
        (120, "QMMA.16832.F32.E2M1.E2M1", False),
        (120, "UTCOMMA.4X", False),
        (90, "UTCOMMA.4X", False),
    ],
)
def test_which_instructions_count(sm, name, is_fp4):
    found = {"entry": Contents(Counter({name: 3, "LDG.E": 1}), 40, 0, 0, 0, 1)}
    assert find_fp4_opcode(found, sm) == (name if is_fp4 else None)


@pytest.mark.parametrize("data", [b"", b"not a cubin"])
def test_a_file_that_is_no_cubin(tmp_path, data):
    with pytest.raises(KernelCompileError, match=r"kernel\.cubin"):
        inspect_bytes(tmp_path, data)


def test_tools_that_are_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert subprocess.run([find_tool("cuobjdump"), "--version"], capture_output=True).returncode == 0
    with pytest.raises(DependencyMissingError, match="no-such-tool, which disassembles kernels, is not installed"):
        find_tool("no-such-tool")


def test_a_tool_on_the_path(tmp_path, monkeypatch):
    tool = tmp_path / "a-disassembler"
    tool.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("a-disassembler") == tool
    assert disassembly.tool_version("a-disassembler") == "system"
