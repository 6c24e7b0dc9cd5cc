"""The packages and programs that nvfp4-trt uses, and the line that installs each."""

from __future__ import annotations

import importlib.metadata
import shutil
from typing import NamedTuple

from nvfp4_trt.building.backends import BACKENDS
from nvfp4_trt.errors import Nvfp4Error


class Software(NamedTuple):
    """One package or program."""

    name: str
    version: str
    """Empty where it is not there."""
    purpose: str
    install: str
    trouble: str = ""
    """Why it does not work although it is there; empty where it does, or was not tried."""

    @property
    def works(self) -> bool:
        """Whether it is there, and nothing is known to be wrong with it."""
        return bool(self.version) and not self.trouble


_CORE = "pip install nvfp4-trt"
_PACKAGES = (
    ("torch", "loading, quantizing, exporting", _CORE),
    ("onnx", "reading and checking files", _CORE),
    ("onnxruntime", "compare, and serving without a GPU", _CORE),
    ("polygraphy", "compare, and polygraphy run", _CORE),
    ("transformers", "Hugging Face folders", "pip install 'nvfp4-trt[hf]'"),
    ("triton", "build plugin: the GEMM", "pip install 'nvfp4-trt[kernels]'"),
    ("nvidia-cuda-nvrtc", "build plugin: the quantizers", "pip install 'nvfp4-trt[kernels]'"),
    ("cuda-bindings", "the kernels on a GPU, and build plugin", "pip install 'nvfp4-trt[cuda]'"),
)
_PROGRAMS = (("cmake", "make plugin: the C++ plugin"), ("c++", "make plugin; torch.compile on a CPU"))
_MODULES = {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "tensorrt_rtx": ("tensorrt-rtx-cu13",)}
"""Backend → the distributions that may bring its module."""


def backends() -> list[Software]:
    """Return the TensorRT modules; each one that is installed is imported, since that is where it fails."""
    found = []
    for backend in BACKENDS.values():
        version = trouble = ""
        try:
            version = str(backend.load().__version__)
        except Nvfp4Error as error:
            version = next(filter(None, map(_version, _MODULES[backend.name])), "")
            trouble = error.message if version else ""
        purpose = f"engines for {', '.join(backend.targets)}"
        found.append(Software(backend.name, version, purpose, backend.install, trouble))
    return found


def packages() -> list[Software]:
    """Return the Python packages: installed ones by their metadata, nothing is imported."""
    return [Software(name, _version(name), purpose, install) for name, purpose, install in _PACKAGES]


def programs() -> list[Software]:
    """Return the programs, by where they are found instead of a version."""
    return [
        Software(name, shutil.which(name) or "", purpose, f"install {name} with the system's package manager")
        for name, purpose in _PROGRAMS
    ]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
