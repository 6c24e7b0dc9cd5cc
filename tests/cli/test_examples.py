"""The examples in the commands' help, run as they stand, in a folder as a user has it."""

import re
import shlex
import sys
import textwrap

import click
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nvfp4_trt.cli.main import cli

MODELS = """
    from torch import nn


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
            self.head = nn.Linear(64, 16)

        def forward(self, x):
            return self.head(self.encoder(x))


    def net():
        return Net()
"""
ORDER = (
    "export", "lower", "build engine", "check", "plan", "inspect", "compare", "report", "calibrate", "pack",
    "convert", "run", "bench", "prove", "sensitivity", "build plugin", "recipes", "doctor", "explain",
    "completion",
)  # fmt: skip
"""An example may take what another one has made."""
NEED_A_GPU = {"run", "bench"}
"""The machines that run these tests have none, and a driver is hidden from them: the refusal is what they show."""


def commands(group=cli, words=()):
    """Return every command that is no group, by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, (*words, name))
        else:
            found[" ".join((*words, name))] = command
    return found


def examples(command):
    """Return the command lines that a command's help gives as examples."""
    paragraphs = re.split(r"\n\s*\n", command.help)
    lines = [
        " ".join(p.split()).removeprefix("Example: ") for p in paragraphs if p.strip().startswith("Example: ")
    ]
    return [shlex.split(line) for line in lines]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder: weights, the function that makes their module, inputs."""
    (tmp_path / "models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    import models

    torch.manual_seed(0)
    weights = models.net().state_dict()
    torch.save(weights, "model.pt")
    save_file(weights, "model.safetensors")
    np.savez("inputs.npz", x=np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32))
    yield tmp_path
    monkeypatch.delitem(sys.modules, "models")


def test_every_command_has_an_example():
    assert set(ORDER) == set(commands())
    for name, command in commands().items():
        lines = examples(command)
        assert lines, f"{name} has no example"
        for line in lines:
            assert line[: 1 + len(name.split())] == ["nvfp4-trt", *name.split()]


def test_every_command_has_the_options_that_all_have():
    for name, command in commands().items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--debug", "-v", "--verbose", "-q", "--quiet"} <= options, name


def test_every_example_runs(run, folder, monkeypatch):
    """Each as it stands, but for `--json`: the `run` fixture holds the object to its schema."""
    for name in ORDER:
        for line in examples(commands()[name]):
            given = (*line[1:], *([] if "--json" in line else ["--json"]))
            if name not in NEED_A_GPU:
                ran = run(*given)
                assert ran.status == 0, (line, ran)
                assert isinstance(ran.json, dict)
                continue
            with monkeypatch.context() as without:
                without.setenv("PATH", "/nowhere")
                ran = run(*given)
            assert (ran.status, ran.json["error"]["code"]) == (3, "gpu-missing"), (line, ran)
