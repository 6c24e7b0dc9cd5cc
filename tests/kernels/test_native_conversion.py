"""Blackwell has an instruction for e2m1, Hopper has not: each cubin uses what its architecture has."""

import subprocess

from nvfp4_trt.kernels.build import build_pack
from nvfp4_trt.kernels.disassembly import find_tool


def test_blackwell_converts_in_hardware(tmp_path):
    pack = build_pack(tmp_path / "pack", sms=(90, 100, 103, 120, 121), kernels=("quantize",), dtypes=("bf16",))
    assert len(pack.manifest.kernels) == 5
    for each in pack.manifest.kernels:
        command = [find_tool("cuobjdump"), "-sass", str(pack.root / each.file)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert ("E2M1.F32" in text) == (each.sm >= 100), each.file
