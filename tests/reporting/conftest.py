"""A small model with attention, its engine, and the page about both; made once."""

import json
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import torch
from parts import example

import nvfp4_trt
from nvfp4_trt.cli.main import main
from nvfp4_trt.printing.schemas import schema_of
from nvfp4_trt.reporting import Report


class Made(NamedTuple):
    onnx: Path
    engine: Path
    module: torch.nn.Module
    batch: dict[str, torch.Tensor]


class Page(NamedTuple):
    path: Path
    report: Report


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("reporting")
    module, batch, dynamic = example("heads")
    nvfp4_trt.export(module, folder / "heads.onnx", inputs=[batch], dynamic=dynamic)
    nvfp4_trt.build(folder / "heads.onnx", folder / "heads.engine", backend="tensorrt_rtx", optimize="off")
    return Made(folder / "heads.onnx", folder / "heads.engine", module, batch)


@pytest.fixture(scope="session")
def page(made, tmp_path_factory) -> Page:
    path = tmp_path_factory.mktemp("page") / "heads.html"
    return Page(path, nvfp4_trt.report(made.onnx, path).report)


class Ran(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capfd):
    """Return the function that runs `nvfp4-trt report`; it holds JSON to its schema."""

    def run(*arguments) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["report", *map(str, arguments)])
        captured = capfd.readouterr()
        if "--json" in arguments:
            jsonschema.validate(json.loads(captured.out), schema_of("report"))
        return Ran(ended.value.code, captured.out, captured.err)

    return run
