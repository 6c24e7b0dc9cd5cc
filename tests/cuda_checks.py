"""Checks of the quantized module on a GPU: `python -m tests.cuda_checks`, by hand, where there is one.

Not collected by pytest: the machines that run the suite have no GPU, and a test that is always skipped
proves nothing. Each line printed is one check; the exit status is 0 where all hold.
"""

import sys
from collections.abc import Callable

import torch
import torch._dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint

from nvfp4_trt.qat import convert_qat, prepare_qat
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.quantization.ops import (
    dequantize,
    fake_quantize_scaled,
    fake_quantize_weight,
    per_tensor_scale,
    per_token_scale,
    quantize,
)
from nvfp4_trt.recipe import RECIPES, ActivationScaling


def _inputs(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(33, 512, generator=generator)
    heavy = normal * torch.exp(3 * torch.randn(33, 512, generator=generator))
    special = normal.clone()
    special[0] = 0.0
    special[1, 5], special[2, 7], special[3, 9] = float("nan"), float("inf"), -0.0
    special[4] *= 1e-30
    patterns = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.float16).reshape(128, 512)
    return {
        "normal": normal.to(dtype),
        "heavy": heavy.to(dtype),
        "special": special.to(dtype),
        "every fp16 pattern": patterns.to(dtype),
    }


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = a.cpu(), b.cpu()
    nan = a.float().isnan() & b.float().isnan()
    return bool(torch.equal(a.float().masked_fill(nan, 0), b.float().masked_fill(nan, 0)))


def codec(dtype: torch.dtype) -> dict[str, bool]:
    """Compare codes, scales and values with the CPU's, bit for bit."""
    result = {}
    for name, x in _inputs(dtype).items():
        for mode, scale_of in (("tensor", per_tensor_scale), ("token", per_token_scale), ("single", None)):
            outs = []
            for device in ("cpu", "cuda"):
                there = x.to(device)
                scale = None if scale_of is None else scale_of(there)
                packed, blocks = quantize(there, scale)
                outs.append((packed, blocks, dequantize(packed, blocks, scale, dtype)))
            result[f"codec {dtype} {name} per {mode}"] = all(_same(a, b) for a, b in zip(*outs, strict=True))
    return result


def modules(dtype: torch.dtype) -> dict[str, bool]:
    """Run a quantized model on the GPU eagerly, compiled and with gradients."""
    result = {}
    for name, recipe in RECIPES.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 128)).to(dtype).eval()
        static = recipe.activations.scaling is ActivationScaling.STATIC
        calibrate = (lambda _root, names: dict.fromkeys(names, 4.0)) if static else None
        quantized = quantize_module(model, recipe, calibrate=calibrate).module
        x = torch.randn(64, 256).to(dtype)
        with torch.no_grad():
            on_cpu = quantized(x).float()
            on_gpu = quantized.cuda()
            eager = on_gpu(x.cuda()).float()
            torch._dynamo.reset()
            compiled = torch.compile(on_gpu, fullgraph=True)(x.cuda()).float()
        noise = (eager.cpu() - on_cpu).norm() / on_cpu.norm()
        result[f"module {dtype} {name}: GPU within 5 % of CPU ({noise:.2e})"] = bool(noise < 0.05)
        drift = (compiled - eager).norm() / eager.norm()
        result[f"module {dtype} {name}: compiled within 5 % of eager ({drift:.2e})"] = bool(drift < 0.05)
        leaf = x.cuda().requires_grad_()
        on_gpu(leaf).float().square().sum().backward()
        result[f"module {dtype} {name}: gradient"] = bool(leaf.grad is not None and leaf.grad.isfinite().all())
    return result


def _prepared(dtype: torch.dtype, name: str, device: str) -> tuple[nn.Module, torch.Tensor]:
    """Return the same small model in training, and a batch, on a device."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 128)).to(dtype)
    x = torch.randn(64, 256).to(dtype)
    prepare_qat(model, name, amaxes={"0": 4.0, "2": 2.0})
    return model.to(device), x.to(device)


def _gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return _gradients_of(module, module, x)


def _gradients_of(
    run: Callable[[torch.Tensor], torch.Tensor], module: nn.Module, x: torch.Tensor
) -> list[torch.Tensor]:
    leaf = x.detach().clone().requires_grad_()
    module.zero_grad()
    run(leaf).float().square().mean().backward()
    return [leaf.grad, *(parameter.grad.clone() for parameter in module.parameters())]


def _near(one: list[torch.Tensor], other: list[torch.Tensor], within: float) -> bool:
    pairs = [(a.float().cpu(), b.float().cpu()) for a, b in zip(one, other, strict=True)]
    return all(bool((a - b).norm() <= within * b.norm()) for a, b in pairs)


def rounding(dtype: torch.dtype) -> dict[str, bool]:
    """Compare what training rounds to, and where gradients stop, with the CPU, bit for bit."""
    result = {}
    for name, x in _inputs(dtype).items():
        for out in (torch.float32, torch.float16, torch.bfloat16):
            for rule in ("spec", "torchao", "modelopt", "compressed-tensors"):
                made = [fake_quantize_weight(x.to(device), out, rule) for device in ("cpu", "cuda")]
                result[f"QAT weight {dtype} to {out} {rule} {name}"] = _same(*made)
        for scaling, scale in (
            ("tensor", None),
            ("token", None),
            ("single", None),
            ("static", torch.tensor(1e-3)),
        ):
            values, gradients = [], []
            for device in ("cpu", "cuda"):
                leaf = x.to(device, copy=True).requires_grad_()
                given = None if scale is None else scale.to(device)
                values.append(fake_quantize_scaled(leaf, scaling, given))
                values[-1].backward(torch.ones_like(leaf))
                gradients.append(leaf.grad)
            result[f"QAT activation {dtype} {scaling} {name}"] = _same(*values)
            result[f"QAT activation {dtype} {scaling} {name}: gradient"] = _same(*gradients)
    return result


def training(dtype: torch.dtype) -> dict[str, bool]:
    """Train a prepared model on the GPU: eagerly, compiled, under autocast and checkpointed; and convert it."""
    result = {}
    for name in RECIPES:
        said = f"QAT {dtype} {name}"
        model, x = _prepared(dtype, name, "cuda")
        on_cpu = _gradients(*_prepared(dtype, name, "cpu"))
        eager = _gradients(model, x)
        # Sums in another order move an activation across a tie now and then.
        result[f"{said}: gradients within 5 % of the CPU's"] = _near(eager, on_cpu, 0.05)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True)
        result[f"{said}: compiled gradients within 5 %"] = _near(_gradients(compiled, x), eager, 0.05)
        recomputed = _gradients_of(lambda leaf, m=model: checkpoint(m, leaf, use_reentrant=False), model, x)
        result[f"{said}: checkpointed gradients equal"] = all(map(_same, recomputed, eager))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # the epsilon of Adam is 0 in float16
        losses = []
        for _ in range(2):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = compiled(x).float().square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        finite = all(bool(p.isfinite().all()) for p in model.parameters())
        result[f"{said}: two steps compiled under autocast ({losses[0]:.4f}, {losses[1]:.4f})"] = (
            finite and losses[1] < losses[0]
        )
        model.eval()
        with torch.no_grad():
            result[f"{said}: converted equals"] = _same(convert_qat(model)(x), model(x))
            with torch.autocast("cuda", dtype=torch.bfloat16):
                result[f"{said}: converted equals under autocast"] = _same(convert_qat(model)(x), model(x))
    return result


def main() -> None:
    print(torch.__version__, torch.cuda.get_device_name())
    checks: dict[str, bool] = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        checks |= codec(dtype)
        checks |= modules(dtype)
        checks |= rounding(dtype)
        checks |= training(dtype)
    for name, held in checks.items():
        print("ok  " if held else "FAIL", name)
    print(f"{sum(checks.values())} of {len(checks)} checks hold")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
