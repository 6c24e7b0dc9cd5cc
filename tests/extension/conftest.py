"""A folder with a model and its files, and Polygraphy's command line as a user types it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import layered
import pytest
from safetensors.torch import save_file

import nvfp4_trt
from nvfp4_trt.cli.main import main


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extension")
    shutil.copy(layered.__file__, folder)
    module, batches = layered.make().eval(), list(layered.batches())
    save_file({name: tensor.clone() for name, tensor in module.state_dict().items()}, folder / "w.safetensors")
    common = {"inputs": batches, "dynamic": ["batch,sequence"]}
    nvfp4_trt.export(module, folder / "model.onnx", **common)
    nvfp4_trt.export(module, folder / "static.onnx", recipe="w4a4-static", **common)
    with pytest.raises(SystemExit):
        main(["lower", str(folder / "model.onnx"), "-o", str(folder / "model.trt.onnx"), "--json"])
    return folder


@pytest.fixture
def polygraphy(folder):
    """Return the function that runs a command line in the folder, and returns its status and all it printed."""

    def polygraphy(line, **environment):
        command = str(Path(sys.executable).with_name("polygraphy"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        ran = subprocess.run(
            [command, *line.split()],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return ran.returncode, ran.stdout + ran.stderr

    return polygraphy
