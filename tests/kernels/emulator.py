"""Compiles the CUDA kernels as C++ and launches them on arrays: see `cuda_on_cpu.h`."""

from __future__ import annotations

import ctypes
import fcntl
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS, TILED, Args, scale_bytes
from nvfp4_trt.kernels.launch import (
    STATE_BYTES,
    Device,
    Kernel,
    Launch,
    Scaling,
    dequantize_launch,
    quantize_launch,
)

if TYPE_CHECKING:
    from collections.abc import Collection

SOURCES = Path(__file__).parents[2] / "plugins" / "kernels"
HERE = Path(__file__).parent
DTYPES = {"f16": (0, torch.float16), "bf16": (1, torch.bfloat16), "f32": (2, torch.float32)}
SMALL_GPU = Device(multiprocessors=3, shared_bytes=100_000)
"""Few multiprocessors, so that small tensors take the paths that large ones take."""
POISON = 0xA5
GUARD = 256
"""Bytes before and after each output that must stay as they are."""
EVERYTHING = ("codes", "scales", "scale", "fake", "values", "sum")


class LaunchError(RuntimeError):
    """A launch that a GPU would hang in, or whose threads wrote where they must not."""


def build(folder: Path, kernel: str, dtype: str, *, native: bool = False, sources: Path = SOURCES) -> ctypes.CDLL:
    """Compile one kernel for one dtype, with the arithmetic of Hopper or of Blackwell (`native`).

    What is in the folder already is used as it is; several processes may ask for it at once.
    """
    library = folder / f"{kernel}.{dtype}.{'native' if native else 'plain'}.so"
    with library.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _compile(library, kernel, dtype, native=native, sources=sources)
    return ctypes.CDLL(str(library))


def _compile(library: Path, kernel: str, dtype: str, *, native: bool, sources: Path) -> None:
    options = [f"-DNVFP4_T={DTYPES[dtype][0]}", f'-DKERNEL="{sources / kernel}.cu"', f"-I{sources}"]
    language = ["-std=c++17", "-O1", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-shared", "-fPIC"]
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-clobbered"]
    scratch = library.with_suffix(".part")
    native_e2m1 = ["-DNVFP4_NATIVE_E2M1"] if native else []
    output = ["-o", str(scratch), str(HERE / "emulated.cpp")]
    subprocess.run(["g++", *language, *warnings, *options, *native_e2m1, *output], check=True)
    scratch.rename(library)


@dataclass
class Result:
    """What a launch wrote; poison where nothing was asked for."""

    codes: torch.Tensor
    scales: torch.Tensor
    scale: torch.Tensor
    fake: torch.Tensor
    values: torch.Tensor
    sum: torch.Tensor


class Emulator:
    """One kernel's library and the memory that its launches share."""

    def __init__(self, library: ctypes.CDLL, kernel: Kernel | Literal["dequantize"], dtype: str) -> None:
        self.library, self.kernel, self.dtype = library, kernel, dtype
        self.state = new_state()

    def run(
        self,
        scaling: Scaling,
        x: torch.Tensor,
        *,
        layout: int = TILED,
        scale: float | None = None,
        floor: float = 0.0,
        function: str = "",
        other: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        epsilon: float = 1e-5,
        device: Device = SMALL_GPU,
        launch: Launch | None = None,
        wanted: Collection[str] = EVERYTHING,
        seed: int = 0,
    ) -> Result:
        """Launch on `x` `[M, K]`, every output poisoned before.

        Args:
            scaling: where the outer scale comes from.
            x: fp16, bf16 or fp32, contiguous along K.
            layout: of the block scales.
            scale: the outer scale, where it is static.
            floor: `Args.floor`.
            function: which norm or activation.
            other: the residual, or `silu_mul`'s factor.
            weight: of a norm.
            bias: of a layer norm.
            epsilon: of a norm.
            device: what the launch rules believe to run on.
            launch: another launch than the rules give.
            wanted: which outputs get memory; the others' addresses are null.
            seed: 0 runs all threads in turn; another number lets blocks overtake each other.

        Raises:
            LaunchError: a deadlock, or a write beside an output or beyond a block's shared memory.
        """
        m, k = x.shape
        launch = launch or quantize_launch(self.kernel, scaling, self.dtype, m, k, device)
        out = Result(
            codes=_guarded((m, k // 2), torch.uint8),
            scales=_guarded((scale_bytes(m, k, layout),), torch.uint8),
            scale=_guarded((m if scaling == "token" else 1,), torch.float32),
            **{name: _guarded((m, k), x.dtype) for name in ("fake", "values", "sum")},
        )
        given = set(wanted)
        if self.kernel == "quantize":
            given -= {"values"}
        if self.kernel != "norm_quantize" or other is None:
            given -= {"sum"}
        address = {name: _address(getattr(out, name) if name in given else None) for name in EVERYTHING}
        scale_in = None if scale is None else torch.tensor([scale])
        args = Args(
            x=x.data_ptr(), m=m, k=k, x_stride=x.stride(0), epsilon=epsilon, floor=floor, layout=layout,
            other=_address(other), other_stride=0 if other is None else other.stride(0),
            weight=_address(weight), bias=_address(bias), scale_in=_address(scale_in),
            values=address["values"], sum=address["sum"], codes=address["codes"], scales=address["scales"],
            scale_out=address["scale"], fake=address["fake"], state=self.state.ctypes.data,
            function={**NORMS, **ACTIVATIONS}.get(function, 0), group=launch.group, stash=launch.stash,
        )  # fmt: skip
        self._launch(launch, args, seed)
        for field in fields(out):
            _check_guards(field.name, getattr(out, field.name))
        return out

    def dequantize(
        self, codes: torch.Tensor, scales: torch.Tensor, scale: torch.Tensor | None, *, layout: int
    ) -> torch.Tensor:
        """Launch `dequantize` on codes `[M, K/2]` and block scales in a layout; returns the values `[M, K]`."""
        m, k = len(codes), 2 * codes.shape[1]
        values = _guarded((m, k), DTYPES[self.dtype][1])
        args = Args(
            codes=codes.data_ptr(), scales=scales.data_ptr(), scale_in=_address(scale), values=values.data_ptr(),
            m=m, k=k, layout=layout, function=int(scale is not None and scale.numel() > 1),
        )  # fmt: skip
        self._launch(dequantize_launch(m, k, SMALL_GPU), args, 0)
        _check_guards("values", values)
        return values

    def call(self, function: str, count: int, *arguments: np.ndarray | float) -> None:
        """Call one of the functions of `emulated.cpp` that take a count, arrays and numbers."""
        getattr(self.library, f"nvfp4_{function}")(
            ctypes.c_int(count),
            *(
                ctypes.c_float(each) if isinstance(each, float) else each.ctypes.data_as(ctypes.c_void_p)
                for each in arguments
            ),
        )

    def _launch(self, launch: Launch, args: Args, seed: int) -> None:
        entry = ctypes.cast(getattr(self.library, launch.entry), ctypes.c_void_p)
        size = launch.grid, launch.block, launch.shared_bytes
        status = self.library.nvfp4_launch(entry, *size, ctypes.c_uint64(seed), ctypes.byref(args))
        if status:
            what = {1: "deadlock", 2: "a write beyond a block's shared memory"}[status]
            raise LaunchError(f"{self.kernel}, {launch}: {what}")


def new_state() -> np.ndarray:
    """Return the memory that the launches of a stream share, as it is when it is made."""
    return np.zeros(STATE_BYTES // 8, dtype=np.uint64)


def _guarded(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return poisoned memory between two guards, 16-byte aligned as torch's own is."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = torch.full((GUARD + size + GUARD,), POISON, dtype=torch.uint8)
    return memory[GUARD : GUARD + size].view(dtype).view(shape)


def _check_guards(name: str, output: torch.Tensor) -> None:
    memory = torch.empty(0, dtype=torch.uint8).set_(output.untyped_storage())
    if not (memory[:GUARD] == POISON).all() or not (memory[-GUARD:] == POISON).all():
        raise LaunchError(f"a write beside {name}")


def _address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
