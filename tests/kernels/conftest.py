"""The emulated kernels, compiled once in a session, whichever worker needs them first."""

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from emulator import Emulator, build


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Emulator]:
    """Return the function that makes an emulator of `(kernel, dtype, native)`: one each, with one state."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "emulated"
    folder.mkdir(exist_ok=True)

    @cache
    def make(kernel: str, dtype: str, native: bool = False) -> Emulator:
        return Emulator(build(folder, kernel, dtype, native=native), kernel, dtype)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the tensors are small, and the test workers share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
