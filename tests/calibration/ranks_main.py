"""One rank of several, for test_ranks: `python ranks_main.py FOLDER SCENARIO...`, with torchrun's variables set.

Prints a JSON line for each scenario: what came out, or which error.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from nvfp4_trt import calibrate
from nvfp4_trt.calibration import ranks
from nvfp4_trt.errors import Nvfp4Error

RANK = int(os.environ.get("RANK", "0"))
SOON = 3.0
"""Seconds without a sign of life after which a rank counts as dead in these tests."""


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64)).eval()


def batches(count=5):
    generator = torch.Generator().manual_seed(1)
    return [{"input": torch.randn(7, 64, generator=generator) * (i + 1)} for i in range(count)]


def _dying():
    for i, batch in enumerate(batches()):
        if i == 3 and RANK == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def _terminated():
    for i, batch in enumerate(batches()):
        if i == 3 and RANK == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # as torchrun does
        yield batch


def _spoiled():
    given = batches()
    given[3]["input"][2, 5] = float("nan")
    return given


def _interrupted():
    yield from batches()[:4]
    raise KeyboardInterrupt


def scenario(name, folder):
    static = {"inputs": batches(), "recipe": folder / "mse.yaml"}
    if name == "equal":
        return calibrate(model(), **static)
    if name == "few":
        return calibrate(model(), **(static | {"inputs": batches(1)}))
    if name == "sharded":
        return calibrate(model(), **(static | {"inputs": batches()[RANK::2], "sharded": True}))
    if name == "model":
        return calibrate(model(seed=RANK), **static)
    if name == "layers":
        return calibrate(model(), **static, only=[str(2 * RANK)])
    if name == "nan":
        return calibrate(model(), **(static | {"inputs": _spoiled()}))
    if name == "terminated":
        return calibrate(model(), **(static | {"inputs": _terminated()}))
    if name == "interrupted":
        return calibrate(model(), **(static | {"inputs": _interrupted()}), state=folder / "state")
    if name == "resumed":
        return calibrate(model(), **static, state=folder / "state")
    return calibrate(model(), **(static | {"inputs": _dying()}))


def main(folder, names):
    ranks._LINGER = 0.1
    for name in names:
        if name == "killed":
            ranks._LOST = SOON
        try:
            said = {"json": scenario(name, folder).model_dump_json()}
        except KeyboardInterrupt:
            said = {"interrupted": True}
        except Nvfp4Error as error:
            said = {**error.as_dict(), "told_elsewhere": error.told_elsewhere}
        sys.stdout.write(json.dumps({"scenario": name, **said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
