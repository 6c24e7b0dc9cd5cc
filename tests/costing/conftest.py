"""Engines of small models, each built once in a session, with what the cost model reads."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import onnx_ir as ir
import pytest

from nvfp4_trt.building import EngineRecord, build_engine
from nvfp4_trt.costing import GPUS, EngineCost, TensorShapes, cost_engine, shapes_at

GPU = GPUS["rtx5090"]


class Built(NamedTuple):
    record: EngineRecord
    model: ir.Model
    """The lowered file."""
    log: str

    def cost(self, *lead: int) -> EngineCost:
        """Model the cost at such leading dimensions of every input; at the optimum without any."""
        return cost_engine(self.record.rows, GPU, self.shapes(*lead))

    def shapes(self, *lead: int) -> TensorShapes:
        return shapes_at(self.model, {n: (*lead, *v[1][len(lead) :]) for n, v in self.record.profile.items()})


@pytest.fixture(scope="session")
def engine(portable, tmp_path_factory) -> Callable[..., Built]:
    """Return the function that builds `(model's name, its dynamic dimensions)`; layers may lose FP4."""

    @cache
    def build(name: str, *dims: str) -> Built:
        folder = tmp_path_factory.mktemp("costed")
        made = build_engine(
            portable(name).path,
            folder / "engine",
            backend="tensorrt_rtx",
            optimize="off",
            dims=dims,
            allow=["*"],
            lowered=folder / "lowered.onnx",
            log=folder / "log",
        )
        return Built(made.record, ir.load(folder / "lowered.onnx"), (folder / "log").read_text(encoding="utf-8"))

    return build
