"""What the parent process asks of the child that runs TensorRT, and what the child answers; as JSON."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic needs it at run time)
from typing import Literal

from pydantic import BaseModel

from nvfp4_trt.building.backends import BackendName  # noqa: TC001

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input name → smallest, preferred and largest shape: an optimization profile."""
PluginForm = Literal["jit", "aot"]
"""Of the Python plugin: launched by Python when the engine runs, or kernels inside the engine."""


class PluginSpec(BaseModel):
    """Which plugin an engine is built with."""

    pack: Path
    """The kernel pack."""
    sm: int
    """The GPU architecture whose kernels are used."""
    library: Path | None = None
    """The C++ plugin; without it, the Python plugin."""
    form: PluginForm = "jit"
    """What runs the Python plugin's kernels: the process that runs the engine, or the engine itself."""


class BuildSpec(BaseModel):
    """One build."""

    backend: BackendName
    targets: tuple[str, ...]
    model: Path
    """The lowered ONNX file."""
    engine: Path
    """Where the engine goes."""
    record: Path
    """Where the layer record goes, as the backend gives it."""
    log: Path
    """Where the log grows while TensorRT runs."""
    profiles: tuple[Shapes, ...] = ()
    """One for each range of shapes that the engine is compiled for; none where all shapes are fixed."""
    plugin: PluginSpec | None = None
    """The plugin that the lowered file's plugin nodes need; None where it has none."""


class BuildResult(BaseModel):
    """How a build went."""

    seconds: float = 0.0
    """Wall time from parsing to the serialized engine."""
    version: str = ""
    """The backend's version."""
    error: str = ""
    """Empty where it went well; else the code of the error."""
    message: str = ""
    hint: str = ""
