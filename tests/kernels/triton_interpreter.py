"""Triton's interpreter, mended where version 3.9 computes e4m3 wrongly, and the GEMM run in it.

Two functions of `triton.runtime.interpreter` are replaced, by `ml_dtypes`:

- `_dot_scaled_scale_to_f32` reads every scale as E8M0, e4m3 too;
- `_convert_float` rounds to e4m3 (and other small floats) wrongly: subnormals cut off, half rounded
  up, carries lost.

`TRITON_INTERPRET=1` has to be set before Triton is imported: this module is a script, which a test starts.
`python triton_interpreter.py OUT` writes the errors of all small cases, and what the unmended functions return,
as JSON.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

SOURCE = Path(__file__).resolve().parents[2] / "plugins" / "kernels" / "gemm.py"


def dot_scaled_scale_to_f32(scale_handle: Any, compute_type: Any) -> np.ndarray:
    """Decode e4m3 scales; leave E8M0 ones, which the interpreter holds as integers, to the original."""
    if scale_handle.dtype.is_int():
        return original["_dot_scaled_scale_to_f32"](scale_handle, compute_type)
    return scale_handle.data.view(ml_dtypes.float8_e4m3fn).astype(np.float32)


def convert_float(data: np.ndarray, from_type: Any, to_type: Any, rounding_mode: Any) -> np.ndarray:
    """Convert between float types, rounding to nearest even; e4m3 saturates, as on a GPU."""
    kinds = {
        "fp8e4nv": ml_dtypes.float8_e4m3fn, "fp8e5": ml_dtypes.float8_e5m2, "bf16": ml_dtypes.bfloat16,
        "fp16": np.float16, "fp32": np.float32, "fp64": np.float64,
    }  # fmt: skip
    bits = getattr(np, f"uint{to_type.primitive_bitwidth}")
    numbers = data.view(kinds[from_type.name])
    if to_type.name == "fp8e4nv":
        numbers = np.clip(numbers.astype(np.float32), -448, 448)
    with np.errstate(over="ignore"):
        return numbers.astype(kinds[to_type.name]).view(bits)


original: dict[str, Callable[..., Any]] = {}


def mend() -> ModuleType:
    """Replace both functions; return the interpreter's module."""
    from triton.runtime import interpreter

    for name, mended in (("_dot_scaled_scale_to_f32", dot_scaled_scale_to_f32), ("_convert_float", convert_float)):
        original[name] = getattr(interpreter, name)
        setattr(interpreter, name, mended)
    return interpreter


def unmended() -> dict[str, list[float]]:
    """Return what the originals make of 1.5 as an e4m3 scale, and of numbers to be rounded to e4m3."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle, _ir

    scale = TensorHandle(np.array([[0x3C]], np.uint8), tl.float8e4nv)
    read = original["_dot_scaled_scale_to_f32"](scale, tl.bfloat16)
    mended = dot_scaled_scale_to_f32(scale, tl.bfloat16)
    numbers = np.array([1.0625, 1.9375, 2.0**-9 * 1.5, 3.25, 500.0], np.float32)
    args = (numbers, tl.float32, tl.float8e4nv, _ir.ROUNDING_MODE.RTNE)
    rounded, right = (
        f(*args).astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        for f in (original["_convert_float"], convert_float)
    )
    return {
        "scale": [float(read[0, 0]), float(mended[0, 0])],
        "rounded": [float(x) for x in rounded],
        "right": [float(x) for x in right],
    }


def load_gemm() -> ModuleType:
    """Import the kernel's source."""
    spec = importlib.util.spec_from_file_location("gemm_source", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(gemm: ModuleType, case: Any) -> float:
    """Run one case; return its largest error as a fraction of what is allowed."""
    from gemm_cases import check, make, outputs

    tile = gemm.variant(case.tile, case.like)
    problem = make(case)
    out, partials, counters = outputs(case)
    programs = -(-case.m // tile.block_m) * -(-case.n // tile.block_n)
    gemm.gemm_kernel[(programs, case.split_k, 1)](
        *problem[:7], out, partials, counters, case.m, case.n, case.k, int(case.alpha_by_row),
        int(case.beta_by_column), int(case.has_bias), case.split_k, **gemm.constants(tile),
    )  # fmt: skip
    return check(case, problem, out, partials, counters)


def main() -> None:
    from gemm_cases import in_form_of, small_cases

    mend()
    gemm = load_gemm()
    report: dict[str, Any] = {"unmended": unmended(), "cases": {}}
    for case in (*small_cases(list(gemm.TILES)), *in_form_of(100, small_cases(list(gemm.DESCRIBED)))):
        try:
            report["cases"][case.name] = {"error": run(gemm, case)}
        except AssertionError as error:
            report["cases"][case.name] = {"error": float("inf"), "why": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(report))


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET") != "1":
        sys.exit("set TRITON_INTERPRET=1")
    main()
