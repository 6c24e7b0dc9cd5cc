"""Fixtures: a folder of its own to stand in, with factories beside the user, as in real use."""

from __future__ import annotations

import itertools
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count()


class Net(nn.Module):
    """Two linears and a buffer; small enough to compare whole outputs."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.up = nn.Linear(width, 16)
        self.down = nn.Linear(16, width, bias=False)
        self.register_buffer("shift", torch.ones(width))

    def forward(self, x: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        y = self.down(torch.relu(self.up(x))) + self.shift
        return y if scale is None else y * scale


NET_SOURCE = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=8):
            super().__init__()
            self.up = nn.Linear(width, 16)
            self.down = nn.Linear(16, width, bias=False)
            self.register_buffer("shift", torch.ones(width))

        def forward(self, x, scale=None):
            y = self.down(torch.relu(self.up(x))) + self.shift
            return y if scale is None else y * scale
"""


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def factory(here: Path) -> Iterator[Callable[[str, str], str]]:
    """Write a module into the current folder and return `module:name` of something in it."""
    written = []

    def write(source: str, name: str = "Net") -> str:
        module = f"loading_factory_{next(_numbers)}"
        (here / f"{module}.py").write_text(textwrap.dedent(source))
        written.append(module)
        return f"{module}:{name}"

    yield write
    for module in written:
        sys.modules.pop(module, None)


@pytest.fixture
def net_factory(factory: Callable[[str, str], str]) -> str:
    return factory(NET_SOURCE, "Net")


class Payload:
    """Pickles as a call to `os.mkdir`: if the folder is there, code from the file ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-ran"


@pytest.fixture
def payload(marker: Path) -> Payload:
    return Payload(marker)
