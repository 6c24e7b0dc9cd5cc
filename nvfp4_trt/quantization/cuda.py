"""The CUDA kernels under the torch operators: one launch each, on the current stream.

A GPU's kernels come from a kernel pack: the folder that `NVFP4_TRT_PACK` names, or one that is compiled at first
use, which takes some seconds, and kept in the user's cache.
"""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.kernels.arguments import ACTIVATIONS, NORMS, ROW_MAJOR, TILED, Args, scale_bytes
from nvfp4_trt.kernels.cached import default_pack
from nvfp4_trt.kernels.driver import Library, cuda, device_limits
from nvfp4_trt.kernels.launch import STATE_BYTES, Launch, dequantize_launch, quantize_launch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvfp4_trt.kernels import KernelFile, Pack
    from nvfp4_trt.kernels.driver import Kernel
    from nvfp4_trt.kernels.launch import Kernel as KernelName
    from nvfp4_trt.kernels.launch import Scaling

DTYPES = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}
_FLOORS = {"spec": 0.0, "torchao": 2.0**-6}
"""The scale rules that the kernels have, and the floor of each."""
_SMS = (90, 100, 103, 120, 121)
_KERNELS = ("quantize", "dequantize", "norm_quantize", "activation_quantize")
"""What is compiled at first use where no pack is named: the FP4 GEMM takes a pack."""
_SCALINGS = ("tensor", "token", "static", "single")
_SAID = {"other": "the residual or second factor", "weight": "the weight", "bias": "the bias"}
_CAPTURES = 16
_MATRIX = 2  # dimensions


def takes(x: Tensor, rule: str) -> bool:
    """Whether the kernels can quantize `x`; where not, the same is computed with torch's own operators."""
    if not x.is_cuda or x.dtype not in DTYPES or rule not in _FLOORS or x.numel() == 0 or x.shape[-1] % 16:
        return False
    return gpu(x.device.index) is not None


def quantize(
    x: Tensor, scaling: Scaling, scale: Tensor | None, rule: str, *, tiled: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Quantize, run-time scale included, in one launch: arguments and result as `ops.quantize_scaled`."""
    outputs = quantized_outputs(x, scaling, tiled=tiled)
    _launch_quantize("quantize", x, scaling, scale, rule, _named(outputs), tiled=tiled)
    return outputs


def fake_quantize(x: Tensor, scaling: Scaling, scale: Tensor | None, rule: str) -> Tensor:
    """Quantize and dequantize in one launch: arguments and result as `ops.fake_quantize_scaled`."""
    values = torch.empty_like(x, memory_format=torch.contiguous_format)
    _launch_quantize("quantize", x, scaling, scale, rule, {"fake": values})
    return values


def norm_quantize(
    x: Tensor,
    norm: tuple[str, Tensor | None, Tensor | None, float],
    residual: Tensor | None,
    scaling: Scaling,
    scale: Tensor | None,
    *,
    tiled: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Normalize and quantize in one launch: arguments and result as `ops.norm_quantize`, `norm` in its order."""
    function, weight, bias, epsilon = norm
    if function not in NORMS or (function == "rms_norm" and bias is not None):
        raise ValueError(f"{function!r} is neither layer_norm nor rms_norm (which has no bias)")
    outputs = quantized_outputs(x, scaling, tiled=tiled)
    values, total = fused_outputs(x, keep=keep, sums=residual is not None)
    named = _named(outputs) | ({"values": values} if keep else {}) | ({} if residual is None else {"sum": total})
    _launch_quantize(
        "norm_quantize",
        x,
        scaling,
        scale,
        "spec",
        named,
        tiled=tiled,
        inputs={"other": residual, "weight": weight, "bias": bias},
        function=NORMS[function],
        epsilon=epsilon,
    )
    return *outputs, values, total


def fused_outputs(x: Tensor, *, keep: bool, sums: bool) -> tuple[Tensor, Tensor]:
    """Return memory for what is quantized and for the sum before a norm; empty where they are not wanted."""
    values, total = (
        torch.empty_like(x, memory_format=torch.contiguous_format) if wanted else x.new_empty(0)
        for wanted in (keep, sums)
    )
    return values, total


def activation_quantize(
    x: Tensor,
    function: str,
    other: Tensor | None,
    scaling: Scaling,
    scale: Tensor | None,
    *,
    tiled: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Activate and quantize in one launch: arguments and result as `ops.activation_quantize`."""
    if function not in ACTIVATIONS or (function == "silu_mul") != (other is not None):
        raise ValueError(f"{function!r} is not an activation function, or its second factor is amiss")
    outputs = quantized_outputs(x, scaling, tiled=tiled)
    values, _ = fused_outputs(x, keep=keep, sums=False)
    named = _named(outputs) | ({"values": values} if keep else {})
    number = ACTIVATIONS[function]
    _launch_quantize(
        "activation_quantize", x, scaling, scale, "spec", named, tiled=tiled,
        inputs={"other": other}, function=number,
    )  # fmt: skip
    return *outputs, values


def quantized_outputs(x: Tensor, scaling: str, *, tiled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return memory for codes, block scales and scale, in the shapes that `ops.quantize_scaled` returns."""
    rows, k = _rows(x)
    shape = (scale_bytes(rows, k),) if tiled else (*x.shape[:-1], k // 16)
    return (
        x.new_empty((*x.shape[:-1], k // 2), dtype=torch.uint8),
        x.new_empty(shape, dtype=torch.float8_e4m3fn),
        x.new_empty((*x.shape[:-1], 1) if scaling == "token" else (), dtype=torch.float32),
    )


def _named(outputs: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    return dict(zip(("codes", "scales", "scale_out"), outputs, strict=True))


def takes_packed(packed: Tensor, block_scale: Tensor, scale: Tensor | None, dtype: torch.dtype) -> bool:
    """Whether the kernels can dequantize these."""
    if not packed.is_cuda or dtype not in DTYPES or packed.numel() == 0:
        return False
    scales = 1 if scale is None else scale.numel()
    if scale is not None and (scale.dtype != torch.float32 or scale.device != packed.device):
        return False
    fits = block_scale.numel() * 8 == packed.numel() and scales in {1, packed.numel() // packed.shape[-1]}
    return fits and gpu(packed.device.index) is not None


def dequantize(packed: Tensor, block_scale: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Dequantize on the GPU in one launch; arguments and result as `ops.dequantize`."""
    packed, block_scale = packed.contiguous(), block_scale.contiguous()
    scale = None if scale is None else scale.contiguous()
    rows, k = packed.numel() // packed.shape[-1], packed.shape[-1] * 2
    values = packed.new_empty((*packed.shape[:-1], k), dtype=dtype)
    gpu = found_gpu(packed.device.index)
    launch = dequantize_launch(rows, k, gpu.limits)
    args = Args(
        codes=packed.data_ptr(),
        scales=block_scale.data_ptr(),
        scale_in=0 if scale is None else scale.data_ptr(),
        values=values.data_ptr(),
        m=rows,
        k=k,
        function=int(scale is not None and scale.numel() > 1),
    )
    with torch.cuda.device(packed.device):
        gpu.launch("dequantize", DTYPES[dtype], launch, args, gpu.stream())
    return values


class Gpu:
    """One device: its pack, its loaded kernels, and the state memory of each of its streams."""

    def __init__(self, ordinal: int, sm: int, pack: Pack) -> None:
        self.ordinal, self.sm, self.pack = ordinal, sm, pack
        _, self.limits = device_limits(ordinal)
        self._kernels: dict[tuple[str, str, str], Kernel] = {}
        self._libraries: dict[str, Library] = {}
        self._states: dict[int, Tensor] = {}
        # Memory for captured graphs: it must exist before a capture begins, and outlive it.
        self._spare = torch.zeros((_CAPTURES, STATE_BYTES), dtype=torch.uint8, device=f"cuda:{ordinal}")

    def stream(self) -> int:
        """Return the handle of the current stream."""
        return torch.cuda.current_stream(self.ordinal).cuda_stream

    def state(self, stream: int) -> int:
        """Return the address of the state memory of the current stream, or of the graph it is captured into."""
        if torch.cuda.is_current_stream_capturing():
            # Graphs may be replayed side by side; each has memory of its own, up to _CAPTURES of them.
            capture = int(cuda().cuStreamGetCaptureInfo(stream)[2])
            return int(self._spare[capture % _CAPTURES].data_ptr())
        found = self._states.get(stream)
        if found is None:
            found = torch.zeros(STATE_BYTES, dtype=torch.uint8, device=f"cuda:{self.ordinal}")
            self._states[stream] = found
        return int(found.data_ptr())

    def launch(self, kernel: str, dtype: str, launch: Launch, args: Args, stream: int) -> None:
        """Launch on a stream of the device."""
        key = (kernel, dtype, launch.entry)
        ready = self._kernels.get(key)
        if ready is None:
            ready = self._kernels[key] = self.kernel(self.pack.file(kernel, dtype, self.sm), launch.entry)
        grid = (launch.grid, 1, 1)
        ready.launch(grid, launch.block, launch.shared_bytes, stream, [args], cooperative=launch.cooperative)

    def kernel(self, file: KernelFile, entry: str) -> Kernel:
        """Return an entry of one of the pack's cubins, loaded."""
        found = self._libraries.get(file.file)
        if found is None:
            found = self._libraries[file.file] = Library(self.pack.read(file), file.file)
        return found.kernel(entry, self.ordinal)


@cache
def gpu(ordinal: int) -> Gpu | None:
    """Return what launches on a device; None, once with a warning, where its kernels cannot be had."""
    major, minor = torch.cuda.get_device_capability(ordinal)
    sm = major * 10 + minor
    if sm not in _SMS:
        return None
    try:
        return Gpu(ordinal, sm, default_pack(sm, _KERNELS))
    except Nvfp4Error as error:
        warnings.warn(
            f"NVFP4 runs on torch's own operators, which is slower: {error.message} ({error.hint})",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def found_gpu(ordinal: int) -> Gpu:
    """Return what launches on a device.

    Raises:
        ValueError: it has no kernels.
    """
    found = gpu(ordinal)
    if found is None:
        raise ValueError(f"there are no CUDA kernels for device {ordinal}")
    return found


def _launch_quantize(
    kernel: KernelName,
    x: Tensor,
    scaling: Scaling,
    scale: Tensor | None,
    rule: str,
    outputs: Mapping[str, Tensor],
    *,
    tiled: bool = False,
    inputs: Mapping[str, Tensor | None] | None = None,
    function: int = 0,
    epsilon: float = 0.0,
) -> None:
    given = {name: each for name, each in (inputs or {}).items() if each is not None}
    _check_given(x, scaling, scale, given)
    x = _readable(x)
    rows, k = _rows(x)
    found = found_gpu(x.device.index)
    launch = _planned(kernel, scaling, DTYPES[x.dtype], rows, k, found)
    stream = found.stream()
    kept = {name: _readable(each) for name, each in given.items()}
    args = Args(
        x=x.data_ptr(),
        scale_in=0 if scale is None else scale.data_ptr(),
        state=found.state(stream) if launch.cooperative else 0,
        m=rows,
        k=k,
        x_stride=_stride(x),
        other_stride=_stride(kept["other"]) if "other" in kept else 0,
        epsilon=epsilon,
        floor=_FLOORS[rule],
        layout=TILED if tiled else ROW_MAJOR,
        function=function,
        group=launch.group,
        stash=launch.stash,
    )
    for name, tensor in (*kept.items(), *outputs.items()):
        setattr(args, name, tensor.data_ptr())
    with torch.cuda.device(x.device):
        found.launch(kernel, DTYPES[x.dtype], launch, args, stream)


def _check_given(x: Tensor, scaling: Scaling, scale: Tensor | None, given: Mapping[str, Tensor]) -> None:
    """Refuse what a kernel would read wrongly: it gets addresses and trusts them.

    Raises:
        ValueError: names what does not fit.
    """
    if scaling not in _SCALINGS or (scaling == "static") != (scale is not None):
        raise ValueError(f"scaling {scaling!r} with scale {scale}")
    if scale is not None and (scale.numel() != 1 or scale.dtype != torch.float32 or scale.device != x.device):
        raise ValueError(f"a static scale is one fp32 number on {x.device}, not {scale.dtype} on {scale.device}")
    for name, each in given.items():
        shape = x.shape if name == "other" else x.shape[-1:]
        if each.shape != shape or each.dtype != x.dtype or each.device != x.device:
            raise ValueError(
                f"{_SAID[name]} must be {x.dtype} {list(shape)} on {x.device}, "
                f"not {each.dtype} {list(each.shape)} on {each.device}"
            )


@lru_cache(maxsize=4096)
def _planned(kernel: KernelName, scaling: Scaling, dtype: str, rows: int, k: int, found: Gpu) -> Launch:
    return quantize_launch(kernel, scaling, dtype, rows, k, found.limits)


def _readable(x: Tensor) -> Tensor:
    """Return `x` as the kernels read it: rows of contiguous elements, each beginning on 16 bytes."""
    by_rows = x.dim() == _MATRIX and x.stride(-1) == 1 and x.stride(0) >= x.shape[-1]
    if not by_rows or x.stride(0) * x.element_size() % 16:
        x = x.contiguous()
    return x if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.contiguous_format)


def _stride(x: Tensor) -> int:
    return x.stride(0) if x.dim() == _MATRIX else x.shape[-1]


def _rows(x: Tensor) -> tuple[int, int]:
    k = x.shape[-1]
    return x.numel() // k, k
