"""A folder as a user has it, with models good and bad, and the command line as a function."""

import json
import os
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import jsonschema
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

from nvfp4_trt.cli.main import cli, main
from nvfp4_trt.printing.schemas import schema_of

SOURCE = '''
    import pathlib
    import time

    import torch
    from torch import nn


    class Net(nn.Module):
        """Three layers that become FP4, and a head that cannot."""

        def __init__(self):
            super().__init__()
            self.up, self.odd, self.down = nn.Linear(64, 128), nn.Linear(128, 96), nn.Linear(128, 64)
            self.head = nn.Linear(64, 1)

        def forward(self, x):
            hidden = torch.relu(self.up(x))
            return {"score": self.head(self.down(hidden)), "features": self.odd(hidden)}


    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(x)


    def tiny():
        return Tiny()


    def big():
        return Big()


    class Big(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(512, 512)

        def forward(self, x):
            return self.fc(x)


    def number():
        return 3


    def broken():
        raise ValueError("no such configuration")


    def slow():
        pathlib.Path("started").touch()
        time.sleep(60)


    constant = 4
'''


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self):
        """Return the one object on standard output, and make sure that there is nothing else."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture(scope="session")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "cli_models.py").write_text(textwrap.dedent(SOURCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        import cli_models

        _write_models(folder, cli_models)
        _write_inputs(folder)
        _write_onnx(folder)
        yield folder


def _write_models(folder, models):
    torch.manual_seed(0)
    net = models.Net()
    weights = net.state_dict()
    torch.save(weights, folder / "w.pt")
    torch.save(net, folder / "m.pt")
    whole = (folder / "w.pt").read_bytes()
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pt").write_text("these are not weights\n")
    torch.save(models.Tiny().state_dict(), folder / "tiny.pt")
    big = models.Big().state_dict()
    save_file(big, folder / "big.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "big.safetensors").read_bytes()[:-1000])
    save_file({**big, "fc.weight": torch.full((512, 512), float("nan"))}, folder / "nan.safetensors")
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        spoiled = {key: tensor.clone() for key, tensor in weights.items()}
        spoiled["down.weight"][2, 3] = value
        torch.save(spoiled, folder / f"{name}.pt")


def _write_inputs(folder):
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        spoiled = x.copy()
        spoiled[1, 7] = value
        np.savez(folder / f"{name}.npz", x=spoiled)


def _write_onnx(folder):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [value], [out])
    onnx.save(helper.make_model(graph), folder / "other.onnx")


@pytest.fixture
def out(tmp_path):
    """Return the folder that outputs go to: a command that fails must leave nothing in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@cache
def _validator(command):
    return jsonschema.Draft202012Validator(schema_of(command))


def hold_to_schema(arguments, printed):
    """Validate what `--json` printed against the schema of the command that the arguments name."""
    command, words = cli, []
    for word in map(str, arguments):
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
        words.append(word)
    if words and not isinstance(command, click.Group):
        _validator(" ".join(words)).validate(json.loads(printed))


@pytest.fixture
def run(assets, capfd, monkeypatch):
    """Return the function that runs a command line in the user's folder; it holds JSON to its schema."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        if "--json" in arguments:
            hold_to_schema(arguments, captured.out)
        return Ran(caught.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def fails(run, out):
    """Return the function that runs a command line which must fail in the way that is said."""

    def fails(arguments, *, status, code, said):
        ran = run(*(str(a).replace("{out}", str(out)) for a in arguments), "--json")
        error = ran.json["error"]
        assert (ran.status, error["code"]) == (status, code), error
        assert said in error["message"]
        assert set(error) == {"code", "message", "hint"}
        assert error["hint"]
        assert "Traceback" not in ran.err
        assert list(out.iterdir()) == []
        return error

    return fails


@pytest.fixture(scope="session")
def exported(assets):
    """Return the path of an exported file, and what the command printed as JSON."""
    return _once(
        [
            "export",
            "w.pt",
            "--model",
            "cli_models:Net",
            "--inputs",
            "x.npz",
            "--dynamic",
            "batch",
            "-o",
            "net.onnx",
        ],
        assets / "net.onnx",
    )


@pytest.fixture(scope="session")
def built(assets, exported):
    """Return the path of an engine, and what the command printed as JSON."""
    return _once(["build", "engine", "net.onnx", "-o", "net.engine"], assets / "net.engine")


def _once(arguments, path: Path):
    reader, writer = os.pipe()
    with os.fdopen(reader) as told, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", os.fdopen(writer, "w"))
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--json"])
        sys.stdout.close()
        printed = json.loads(told.read())
    assert caught.value.code == 0, printed
    return path, printed
