"""Checks of the Python plugin on a GPU: `python -m tests.plugin_checks PACK [AOT]`, by hand, where there is one.

What a plugin does inside an engine, without the engine: memory of its own, kernels of the pack, launches on a
stream, capture into a CUDA graph. With AOT, a folder that `python -m tests.plugin_checks --compile AOT SM` wrote
(which needs the compilers and no GPU), also the kernels of the ahead-of-time form, with their parameters in the
order in which TensorRT passes them. What fails is printed; the exit status is 0 where all hold.
"""

import ctypes
import itertools
import json
import sys
from pathlib import Path

import torch

from nvfp4_trt import format as fmt
from nvfp4_trt.kernels import load_pack
from nvfp4_trt.kernels.driver import Library, device_limits
from nvfp4_trt.plugin.aot_kernels import gemm_cubin, quantize_cubin
from nvfp4_trt.plugin.aot_plans import BoundedIntegers, gemm_grid, launch_quantize
from nvfp4_trt.plugin.fields import SCALINGS, GemmFields, QuantizeFields
from nvfp4_trt.plugin.formats import FLOATS
from nvfp4_trt.plugin.plans import workspace_bytes
from nvfp4_trt.plugin.running import Running, current_device
from nvfp4_trt.plugin.shapes import Integers, quantize_shapes, tensor_dtypes

TORCH = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "i8": torch.int8}
NUMBERS = {"f32": 1, "f16": 10, "bf16": 16}
POISON = 0x5A


def empty(shape, dtype):
    """Return memory full of a byte that no result consists of."""
    made = torch.empty(shape, dtype=TORCH[dtype], device="cuda")
    made.view(torch.uint8).fill_(POISON)
    return made


def addresses(tensors):
    return [tensor.data_ptr() for tensor in tensors]


def run_node(pack, fields, inputs, dtype, outputs, workspace=0, *, graph=False):
    """Run a node as an execution context does: attached once, told its shapes, then run twice."""
    running = Running(pack, fields)
    running.prepare([tuple(tensor.shape) for tensor in inputs], dtype)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    where = (addresses(inputs), addresses(outputs), workspace)
    running.enqueue(*where, stream.cuda_stream)
    if graph:
        captured = torch.cuda.CUDAGraph()
        stream.synchronize()
        for tensor in outputs:
            tensor.view(torch.uint8).fill_(POISON)
        torch.cuda.synchronize()
        with torch.cuda.graph(captured, stream=stream):
            running.enqueue(*where, torch.cuda.current_stream().cuda_stream)
        captured.replay()
        captured.replay()
    else:
        running.enqueue(*where, stream.cuda_stream)
    torch.cuda.synchronize()
    running.close()


def expected(values, scaling, scale):
    """Return codes, swizzled scales and alpha of a matrix, as the number format's reference has them."""
    x = values.cpu()
    alpha = {
        "token": lambda: fmt.per_token_scale(x),
        "tensor": lambda: fmt.per_tensor_scale(x).reshape(1),
        "static": lambda: scale.cpu() if scale.is_cuda else scale,
        "single": lambda: torch.ones(1),
    }[scaling]()
    outer = None if scaling == "single" else alpha.reshape(()) if alpha.numel() == 1 else alpha
    packed, blocks = fmt.quantize(x, outer)
    rows = blocks.reshape(-1, blocks.shape[-1])
    return packed.view(torch.int8), fmt.swizzle_scales(rows).view(torch.int8).reshape(-1), alpha


def quantize_case(pack, fields, dtype, shape, *, graph):
    """Return whether codes, scales and alpha are those of the values that the node says it quantized."""
    torch.manual_seed(0)
    every = {
        "x": torch.randn(shape, device="cuda", dtype=TORCH[dtype]),
        "other": torch.randn(shape, device="cuda", dtype=TORCH[dtype]),
        "weight": torch.randn(shape[-1], device="cuda", dtype=TORCH[dtype]),
        "bias": torch.randn(shape[-1], device="cuda", dtype=TORCH[dtype]),
        "scale": torch.tensor([3.0 / 2688], device="cuda"),
    }
    dtypes = tensor_dtypes(fields, dtype)
    shapes = dict(zip(fields.outputs, quantize_shapes(Integers(), fields, list(shape)), strict=True))
    outputs = {name: empty(each, dtypes[name]) for name, each in shapes.items()}
    run_node(pack, fields, [every[name] for name in fields.inputs], dtype, list(outputs.values()), graph=graph)
    values = outputs.get("values", every["x"])
    wanted = expected(values, fields.scaling, every["scale"])
    made = [outputs[name].cpu() for name in ("codes", "scales", "alpha")]
    return all(torch.equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(made, wanted, strict=True))


def gemm_case(pack, dtype, m, n, k, *, token, merged, bias, graph):
    """Return the relative error of a GEMM against fp64."""
    torch.manual_seed(0)
    x, w = torch.randn(m, k), torch.randn(n, k)
    a, a_scales, alpha = expected(x, "token" if token else "tensor", None)
    b, b_scales, beta = expected(w, "tensor", None)
    beta = beta.expand(n).contiguous() if merged else beta
    added = [torch.randn(n).to(TORCH[dtype])] if bias else []
    fields = GemmFields(NUMBERS[dtype], has_bias=int(bias))
    inputs = [each.cuda() for each in (a, a_scales, alpha, b, b_scales, beta, *added)]
    out = empty((m, n), dtype)
    sm, _ = device_limits(current_device())
    bytes_ = workspace_bytes(pack, fields, [tuple(each.shape) for each in inputs], sm)
    workspace = torch.empty(max(bytes_, 16), dtype=torch.uint8, device="cuda")
    run_node(pack, fields, inputs, "i8", [out], workspace.data_ptr(), graph=graph)
    outer = ((x, alpha if token else alpha.reshape(())), (w, beta[0]))
    wide = [fmt.dequantize(*fmt.quantize(each, scale), scale).double() for each, scale in outer]
    wanted = wide[0] @ wide[1].T + (added[0].double() if bias else 0)
    return ((out.cpu().double() - wanted).norm() / wanted.norm()).item()


AOT_TILE = "64x128x256"
AOT_KERNELS = ("quantize", "norm_quantize", "activation_quantize")


def compile_aot(folder, sm):
    """Write the kernels of the ahead-of-time form for bf16 in and fp16 out."""
    folder.mkdir(parents=True, exist_ok=True)
    for kernel in AOT_KERNELS:
        (folder / f"{kernel}.cubin").write_bytes(quantize_cubin(kernel, "bf16", sm))
    cubin, tile = gemm_cubin(AOT_TILE, "f16", sm)
    (folder / "gemm.cubin").write_bytes(cubin)
    (folder / "gemm.json").write_text(tile.model_dump_json())


def launch_aot(path, entry, grid, block, shared, inputs, numbers, outputs):
    """Launch a kernel as TensorRT does: inputs, numbers, outputs."""
    given = [ctypes.c_void_p(each.data_ptr()) for each in inputs]
    given += [ctypes.c_int32(number) for number in numbers]
    given += [ctypes.c_void_p(each.data_ptr()) for each in outputs]
    kernel = Library(path.read_bytes(), path.name).kernel(entry, current_device())
    kernel.launch((grid, 1, 1), block, shared, torch.cuda.current_stream().cuda_stream, given)
    torch.cuda.synchronize()


def aot_quantize_case(folder, fields, shape, most):
    """Return whether codes, scales and alpha are those of the values, with the launch made for `most` rows."""
    torch.manual_seed(0)
    x, other = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    weight = torch.randn(shape[-1], device="cuda", dtype=torch.bfloat16)
    scale = torch.tensor([3.0 / 2688], device="cuda")
    every = {"x": x, "other": other, "weight": weight, "bias": weight, "scale": scale}
    held = {name: every[name] if name in fields.inputs else x for name in every}  # as the nodes have them
    dtypes = tensor_dtypes(fields, "bf16")
    shapes = dict(zip(fields.outputs, quantize_shapes(Integers(), fields, list(shape)), strict=True))
    outputs = {
        name: empty(shapes.get(name, [16]), dtypes.get(name, "bf16"))
        for name in ("codes", "scales", "alpha", "values", "sum")
    }
    largest = (most, shape[-1])
    _, device = device_limits(current_device())
    launch = launch_quantize(BoundedIntegers(), fields, list(shape), largest, largest, "bf16", device)
    path = folder / f"{fields.kernel}.cubin"
    tensors = (list(held.values()), launch.numbers, list(outputs.values()))
    launch_aot(path, launch.entry, launch.grid, launch.block, launch.shared_bytes, *tensors)
    values = outputs["values"] if "values" in shapes else x
    wanted = expected(values, fields.scaling, scale)
    made = [outputs[name].cpu() for name in ("codes", "scales", "alpha")]
    same = all(torch.equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(made, wanted, strict=True))
    absent = [outputs[name] for name in ("values", "sum") if name not in shapes]
    return same and all(bool((each.view(torch.uint8) == POISON).all()) for each in absent)


def aot_gemm_case(folder, m, n, k):
    """Return the relative error of the GEMM against fp64: per token, merged weights, bias."""
    torch.manual_seed(0)
    x, w, bias = torch.randn(m, k), torch.randn(n, k), torch.randn(n).half()
    a, a_scales, alpha = expected(x, "token", None)
    b, b_scales, beta = expected(w, "tensor", None)
    inputs = [each.cuda() for each in (a, b, a_scales, b_scales, alpha, beta.expand(n).contiguous(), bias)]
    out, scratch = empty((m, n), "f16"), [empty((1,), "f32"), empty((1,), "f32")]
    tile = json.loads((folder / "gemm.json").read_text())
    grid = gemm_grid(BoundedIntegers(), m, n, tile["block_m"], tile["block_n"])
    numbers = (m, n, k, 1, 1, 1)
    block, shared = tile["warps"] * 32, tile["shared_bytes"]
    launch_aot(folder / "gemm.cubin", "gemm_kernel", grid, block, shared, inputs, numbers, [out, *scratch])
    wide = [fmt.dequantize(*fmt.quantize(t, s), s).double() for t, s in ((x, alpha), (w, beta[0]))]
    wanted = wide[0] @ wide[1].T + bias.double()
    return ((out.cpu().double() - wanted).norm() / wanted.norm()).item()


def aot_checks(folder):
    checks = {}
    kinds = {
        "none": {},
        "rms_norm": {"has_residual": 1, "has_weight": 1, "emit_values": 1},
        "silu_mul": {"emit_values": 1},
    }
    for scaling in ("token", "static", "single"):
        for function, flags in kinds.items():
            fields = QuantizeFields(scaling, function, 1e-5, **flags)
            for shape, most in (((1, 64), 1), ((3, 7, 80), 21), ((129, 1024), 4096), ((2048, 4096), 2048)):
                held = aot_quantize_case(folder, fields, shape, most)
                checks[f"ahead of time: {scaling} {function} {shape}, made for {most} rows"] = held
    for m, n, k in ((1, 8, 32), (200, 136, 544), (513, 1024, 1024)):
        error = aot_gemm_case(folder, m, n, k)
        checks[f"ahead of time: gemm {m}x{n}x{k}: {error:.1e} < 1e-3"] = error < 1e-3
    return checks


def node_checks(pack):
    checks = {}
    norm = {"has_residual": 1, "has_weight": 1, "emit_values": 1, "emit_sum": 1}
    functions = {
        "none": {},
        "rms_norm": norm,
        "layer_norm": {**norm, "has_bias": 1},
        **{name: {"emit_values": 1} for name in ("gelu", "gelu_tanh", "silu", "silu_mul", "relu")},
    }
    shapes = ((1, 16), (3, 7, 80), (2, 129, 1024), (512, 4096))
    for scaling, function, dtype, shape in itertools.product(SCALINGS, functions, FLOATS, shapes):
        fields = QuantizeFields(scaling, function, 1e-5, **functions[function])
        graph = shape == (512, 4096)
        held = quantize_case(pack, fields, dtype, shape, graph=graph)
        checks[f"quantize {scaling} {function} {dtype} {shape}{' in a graph' * graph}"] = held
    limits = {"f32": 1e-6, "f16": 1e-3, "bf16": 6e-3}
    sizes = ((1, 8, 32), (7, 136, 96), (16, 4096, 4096), (200, 136, 544), (513, 1024, 1024))
    for (dtype, limit), (m, n, k), whole in itertools.product(limits.items(), sizes, (False, True)):
        graph = k == 4096
        error = gemm_case(pack, dtype, m, n, k, token=whole, merged=whole, bias=whole, graph=graph)
        name = f"gemm {dtype} {m}x{n}x{k}{' per token, merged, bias' * whole}{' in a graph' * graph}"
        checks[f"{name}: {error:.1e} < {limit}"] = error < limit
    return checks


def main() -> None:
    if sys.argv[1] == "--compile":
        compile_aot(Path(sys.argv[2]), int(sys.argv[3]))
        return
    torch.zeros(1, device="cuda")
    sys.stdout.write(f"{torch.__version__} {torch.cuda.get_device_name()}\n")
    checks = node_checks(load_pack(sys.argv[1]))
    if len(sys.argv) > 2:
        checks |= aot_checks(Path(sys.argv[2]))
    for name, held in checks.items():
        if not held:
            sys.stdout.write(f"FAIL {name}\n")
    sys.stdout.write(f"{sum(checks.values())} of {len(checks)} checks hold\n")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
