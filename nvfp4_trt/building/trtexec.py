"""The command line that builds the same engine with the vendor's own tool."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from nvfp4_trt.building.backends import BackendName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.building.profiles import InputProfile


def trtexec_line(
    backend: BackendName,
    targets: Sequence[str],
    model: Path,
    engine: Path,
    profile: Mapping[str, InputProfile],
    *,
    attention: bool = False,
    plugin: str = "",
) -> str:
    """Return the line for `trtexec` (full TensorRT) or `tensorrt_rtx` (its counterpart for RTX).

    Neither tool is in a Python package, so this project has not run the lines that it prints. `attention`
    says whether the model has Attention operators, which must be allowed to be decomposed; `plugin` names the
    C++ plugin library where the model has plugin nodes: no such tool runs Python.
    """
    rtx = backend is BackendName.TENSORRT_RTX
    words = ["tensorrt_rtx" if rtx else "trtexec", f"--onnx={model}", f"--saveEngine={engine}"]
    words += ["--profilingVerbosity=detailed"]
    if not rtx:
        words += ["--stronglyTyped"]
    if plugin:
        words += [f"--dynamicPlugins={plugin}"]
    if rtx and targets:
        words += ["--computeCapabilities=" + ",".join(_dotted(target) for target in targets)]
    if attention:
        words += ["--decomposableAttentions=*"]
    if profile:
        for flag, index in (("minShapes", 0), ("optShapes", 1), ("maxShapes", 2)):
            shapes = ",".join(f"{name}:{'x'.join(map(str, p[index]))}" for name, p in profile.items())
            words.append(f"--{flag}={shapes}")
    return shlex.join(words)


def _dotted(target: str) -> str:
    digits = target.removeprefix("sm_")
    return f"{digits[:-1]}.{digits[-1]}"
