"""Checks of calibration on two GPUs, by hand, where there are two: NCCL against one process, bit for bit.

    torchrun --standalone --nproc-per-node 2 -m tests.distributed_checks

Not collected by pytest: the machines that run the suite have no GPU. Where there is none it does the same on
the CPU, over gloo, which checks the script. Each line printed is one check; the exit status is 0 where all hold.
It needs neither onnx nor TensorRT.
"""

import os
import sys

import torch
from torch import nn

from nvfp4_trt.calibration import calibrate_model, join
from nvfp4_trt.calibration.alone import Alone
from nvfp4_trt.calibration.result import Calibration
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.loading import load_model
from nvfp4_trt.recipe import Activations, ObserverName, Recipe

RANK = int(os.environ["RANK"])
DEVICE = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
Batches = list[dict[str, torch.Tensor]]


def _model(dtype: torch.dtype, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 3).to(dtype).eval()


def _batches(dtype: torch.dtype, count: int = 9) -> Batches:
    generator = torch.Generator().manual_seed(1)
    heavy = [torch.randn(4 + i, 32 + 8 * i, 512, generator=generator).mul(2.0**i) for i in range(count)]
    return [{"src": x.to(dtype)} for x in heavy]


def _on(device: str, batches: Batches) -> Batches:
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]


def _calibrated(module: nn.Module, recipe: Recipe, batches: Batches, place: Alone) -> Calibration:
    return calibrate_model(load_model(module), module, recipe, batches, ranks=place)


def _equal(observer: ObserverName, dtype: torch.dtype) -> dict[str, bool]:
    """Compare both ranks, on NCCL, with this process alone on its GPU."""
    recipe = Recipe(activations=Activations.model_validate({"scaling": "static", "observer": observer}))
    module, batches = _model(dtype).to(DEVICE), _on(DEVICE, _batches(dtype))
    alone = _calibrated(module, recipe, batches, Alone())
    with join(DEVICE) as place:
        together = _calibrated(module, recipe, batches, place)
    return {
        f"{observer} {dtype}: two processes are one, bit for bit": alone.model_dump_json()
        == together.model_dump_json(),
        f"{observer} {dtype}: other order, the same": _calibrated(module, recipe, batches[::-1], Alone()) == alone,
    }


def _counts_as_the_cpu_does(dtype: torch.dtype) -> dict[str, bool]:
    """Compare a layer that sees the inputs themselves: nothing before it is computed in another order."""
    module, batches = nn.Sequential(nn.Linear(512, 64)).to(dtype).eval(), _batches(dtype)
    batches = [{"input": batch["src"]} for batch in batches]
    result = {}
    for observer in ObserverName:
        recipe = Recipe(activations=Activations.model_validate({"scaling": "static", "observer": observer}))
        here = _calibrated(module.cpu(), recipe, batches, Alone())
        there = _calibrated(module.to(DEVICE), recipe, _on(DEVICE, batches), Alone())
        result[f"{observer} {dtype}: counted on {DEVICE} as on the CPU"] = here == there
    return result


def _disagreeing() -> dict[str, bool]:
    """Start each rank on a model of its own: both must end."""
    recipe = Recipe(activations=Activations.model_validate({"scaling": "static"}))
    module = _model(torch.float32, seed=RANK)
    try:
        with join(DEVICE) as place:
            _calibrated(module, recipe, _batches(torch.float32, 2), place)
    except Nvfp4Error as error:
        return {f"ranks that disagree end ({error.code})": error.code in {"ranks-disagree", "rank-failed"}}
    return {"ranks that disagree end": False}


def main() -> None:
    if DEVICE != "cpu":
        torch.cuda.set_device(DEVICE)
    if RANK == 0:
        name = "no GPU" if DEVICE == "cpu" else f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        print(torch.__version__, name)
    checks: dict[str, bool] = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        checks |= _counts_as_the_cpu_does(dtype)
        for observer in ObserverName:
            checks |= _equal(observer, dtype)
    checks |= _disagreeing()
    if RANK == 0 or not all(checks.values()):
        for name, held in checks.items():
            print("ok  " if held else "FAIL", f"[rank {RANK}]", name)
        print(f"[rank {RANK}] {sum(checks.values())} of {len(checks)} checks hold")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
