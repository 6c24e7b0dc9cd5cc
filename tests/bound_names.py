"""Names that a module takes from TensorRT, and where they are bound, as far as can be seen without a GPU."""

import importlib.metadata
from functools import cache

import tensorrt_rtx


def lacks_rtx(path):
    """Return the first part of a dotted path that TensorRT-RTX does not have; empty where it has all."""
    found = tensorrt_rtx
    for part in path.split("."):
        if part == "__init__":
            continue
        if not hasattr(found, part):
            return part
        found = getattr(found, part)
    return ""


@cache
def full_bindings():
    """Return the bytes of full TensorRT's bindings, which do not import without its libraries."""
    for package in ("tensorrt-cu13-bindings", "tensorrt-cu12-bindings"):
        try:
            files = importlib.metadata.files(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        (library,) = (f for f in files if f.name == "tensorrt.so")
        return library.locate().read_bytes()
    raise AssertionError("pip install tensorrt-cu13-bindings: the `dev` extra has it")


def lacks_full(path):
    """Return the first part of a dotted path that full TensorRT does not bind, as a C string in its library."""
    return next((part for part in path.split(".") if f"{part}\0".encode() not in full_bindings()), "")
