"""The kernels as an ahead-of-time plugin needs them: parameters one by one, inputs, numbers, outputs.

Same sources and compilers as the kernel pack's. They are compiled while an engine is built, and travel in it.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from nvfp4_trt.errors import KernelCompileError
from nvfp4_trt.kernels.cuda_compiler import compile_cuda
from nvfp4_trt.kernels.disassembly import check_contents, inspect_cubin
from nvfp4_trt.kernels.sources import DTYPES, SOURCES, read_headers, target_name
from nvfp4_trt.kernels.triton_compiler import compile_gemm

if TYPE_CHECKING:
    from nvfp4_trt.kernels.pack import GemmTile

INPUTS = ("x", "other", "weight", "bias", "scale_in")
NUMBERS = ("m", "k", "epsilon", "function", "group", "present")
"""int32 each. `epsilon` is the bit pattern of an fp32; bit i of `present` says whether OPTIONAL[i] is there."""
OUTPUTS = ("codes", "scales", "scale_out", "values", "sum")
OPTIONAL = ("other", "weight", "bias", "scale_in", "values", "sum")

_STRUCT = "(const __grid_constant__ nvfp4::Args args) {"
_TYPES = {"scale_in": "const float*", "scale_out": "float*"}


def quantize_source(text: str) -> str:
    """Give every entry of a source, or of a header of it, the parameters of an ahead-of-time plugin.

    Each entry then fills in the structure that it takes otherwise, with scales in tiles (`layout` 1) and rows
    that lie side by side.
    """
    inputs = [f"{_TYPES.get(name, 'const uint8_t*')} {name}" for name in INPUTS]
    numbers = [f"int32_t {name}" for name in NUMBERS]
    outputs = [f"{_TYPES.get(name, 'uint8_t*')} {name}" for name in OUTPUTS]
    bit = {name: f"(present >> {i} & 1) != 0" for i, name in enumerate(OPTIONAL)}
    filled = [
        f"args.{name} = {bit[name]} ? {name} : nullptr;" if name in bit else f"args.{name} = {name};"
        for name in (*INPUTS, *OUTPUTS)
    ]
    filled += ["args.M = m;", "args.K = args.x_stride = args.other_stride = k;", "args.layout = 1;"]
    filled += ["args.epsilon = __int_as_float(epsilon);", "args.function = function;", "args.group = group;"]
    parameters = ", ".join([*inputs, *numbers, *outputs])
    return text.replace(_STRUCT, f"({parameters}) {{ nvfp4::Args args{{}}; {' '.join(filled)}")


@cache
def quantize_cubin(kernel: str, dtype: str, sm: int) -> bytes:
    """Compile one of the quantizing kernels; its entries have the names that they have in the pack.

    The structure's fields take registers here that they do not take as a parameter, so that an entry may keep some
    bytes of a thread in local memory: the check that the pack's kernels pass is not made.

    Args:
        kernel: `quantize`, `norm_quantize` or `activation_quantize`.
        dtype: of the input: `f16`, `bf16` or `f32`.
        sm: the GPU architecture, for example 120.

    Raises:
        KernelCompileError: it does not compile, or the source has no entry of the form that is known here.
    """
    name = f"{kernel}.cu"
    texts = {name: (SOURCES / name).read_text(encoding="utf-8"), **read_headers(SOURCES)}
    changed = {each: quantize_source(text) for each, text in texts.items()}
    if changed == texts:
        raise KernelCompileError(f"{name} has no entry that takes {_STRUCT}", "this is a defect: report it")
    source = changed.pop(name)
    return compile_cuda(source, name, changed, sm, {"NVFP4_T": DTYPES.index(dtype)})


@cache
def gemm_cubin(tile: str, dtype: str, sm: int) -> tuple[bytes, GemmTile]:
    """Compile the GEMM, whose entry is `gemm_kernel`; on a Blackwell GPU it holds the FP4 instruction.

    Args:
        tile: the tile, for example `128x128x256`.
        dtype: of the output: `f16`, `bf16` or `f32`.
        sm: the GPU architecture, for example 120.

    Raises:
        KernelCompileError, KernelSpillsError, KernelNotFp4Error: see `compile_gemm` and `check_contents`.
    """
    made = compile_gemm(SOURCES / "gemm_aot.py", tile, dtype, sm)
    _check_gemm(made.cubin, f"gemm.{dtype}.{tile}.{target_name(sm)}.cubin", sm)
    return made.cubin, made.tile


def _check_gemm(cubin: bytes, file: str, sm: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nvfp4-aot-") as folder:
        path = Path(folder) / file
        path.write_bytes(cubin)
        check_contents(file, "gemm", sm, inspect_cubin(path))
