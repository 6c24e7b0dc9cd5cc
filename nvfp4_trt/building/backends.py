"""The two TensorRT modules, and everything in which they differ; the builder is one code path for both."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nvfp4_trt.building.gpus import find_gpus
from nvfp4_trt.errors import (
    BackendMissingError,
    FeatureUnsupportedError,
    PluginsUnsupportedError,
    TargetUnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


DEFAULT_TARGET = "sm_120"


class BackendName(StrEnum):
    """Which module builds."""

    TENSORRT = "tensorrt"
    """Full TensorRT: builds for the GPU of the machine it runs on, datacenter Blackwell included."""
    TENSORRT_RTX = "tensorrt_rtx"
    """TensorRT-RTX: cross-compiles for consumer Blackwell on any machine."""


@dataclass(frozen=True)
class Backend:
    """One TensorRT module and its limits."""

    name: BackendName
    targets: tuple[str, ...]
    """GPU architectures that it can build FP4 engines for."""
    cross_compiles: bool
    """Whether it builds without the GPU that it builds for."""
    minimum: tuple[int, int]
    """First version (major, minor) whose parser takes FP4 models as we write them."""
    install: str
    """How to get it."""
    inspects: bool
    """Whether the engine inspector gives the layer record; otherwise the builder's log does."""
    plugins: bool
    """Whether it builds engines with plugins."""

    def check_plugins(self) -> None:
        """Refuse a backend that builds no plugins.

        Raises:
            PluginsUnsupportedError: it builds none.
        """
        if not self.plugins:
            raise PluginsUnsupportedError(
                f"{self.name} builds no plugins: its networks have no plugin layers",
                "drop --plugin: the lowering then rewrites run-time scales into its own operators; or build with "
                "--backend tensorrt",
            )

    def load(self) -> Any:
        """Import the module.

        Raises:
            BackendMissingError: it is not installed, or its libraries are not.
            FeatureUnsupportedError: it is older than `minimum`.
        """
        try:
            module = importlib.import_module(self.name)
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendMissingError(f"{self.name} cannot be imported: {error}", self.install) from error
        found = _version(str(module.__version__))
        if found < self.minimum:
            least = ".".join(map(str, self.minimum))
            raise FeatureUnsupportedError(
                f"{self.name} {module.__version__} builds no FP4 GEMM", f"needs >= {least}"
            )
        return module

    def goals(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return the architectures to build for: those named, or where it cross-compiles `DEFAULT_TARGET`.

        Raises:
            TargetUnsupportedError, BackendMissingError: see `check_targets`.
        """
        found = tuple(dict.fromkeys(targets)) or ((DEFAULT_TARGET,) if self.cross_compiles else ())
        self.check_targets(found)
        return found

    def check_targets(self, targets: Sequence[str]) -> None:
        """Refuse what cannot be built.

        Raises:
            TargetUnsupportedError: an architecture outside `targets`, several where one is possible, or, for a
                backend that does not cross-compile, one that is not this machine's GPU.
        """
        for target in targets:
            if target not in self.targets:
                raise TargetUnsupportedError(
                    f"{self.name} cannot build FP4 engines for {target}",
                    f"it builds for {', '.join(self.targets)}{self._other_backend(target)}",
                )
        if self.cross_compiles:
            return
        if len(set(targets)) > 1:
            raise TargetUnsupportedError(f"{self.name} builds for one GPU at a time", "name one --target")
        here = local_architecture()
        if here is None:
            raise BackendMissingError(
                f"{self.name} builds on the GPU that it builds for, and nvidia-smi finds none here",
                "build on that machine, or for consumer Blackwell with --backend tensorrt_rtx",
            )
        if targets and here != targets[0]:
            raise TargetUnsupportedError(
                f"{self.name} builds for the GPU of this machine, {here}, not for {targets[0]}",
                "build on that machine, or for sm_120 and sm_121 with --backend tensorrt_rtx",
            )

    def _other_backend(self, target: str) -> str:
        others = [b.name for b in BACKENDS.values() if target in b.targets]
        return f"; {others[0]} builds for {target}" if others else ""


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            name=BackendName.TENSORRT,
            targets=("sm_100", "sm_103", "sm_120", "sm_121"),
            cross_compiles=False,
            minimum=(10, 8),
            install="pip install tensorrt, or run in NVIDIA's TensorRT image (see the Dockerfile)",
            inspects=True,
            plugins=True,
        ),
        Backend(
            name=BackendName.TENSORRT_RTX,
            targets=("sm_120", "sm_121"),
            cross_compiles=True,
            minimum=(1, 4),
            install="pip install 'nvfp4-trt[rtx]' (TensorRT-RTX is NVIDIA's, under its own licence)",
            inspects=False,
            plugins=False,
        ),
    )
}


def choose_backend(name: str | None) -> Backend:
    """Return the backend of that name, or by default full TensorRT where it is installed, else TensorRT-RTX.

    Raises:
        BackendMissingError: neither is installed, or not the named one.
    """
    if name is not None:
        backend = BACKENDS[BackendName(name)]
        if importlib.util.find_spec(backend.name) is None:
            raise BackendMissingError(f"{backend.name} is not installed", backend.install)
        return backend
    for backend in BACKENDS.values():
        if importlib.util.find_spec(backend.name) is not None:
            return backend
    raise BackendMissingError(
        "neither tensorrt nor tensorrt_rtx is installed", BACKENDS[BackendName.TENSORRT_RTX].install
    )


def network_flags(trt: Any) -> int:
    """Return the creation flags of a strongly typed network; a version without the flag knows no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def set_targets(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """Ask for the architectures, where the backend cross-compiles."""
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(trt.ComputeCapability, target.replace("sm_", "SM")), index)


def allow_decomposed_attention(trt: Any, network: Any) -> int:
    """Let every attention that has no fused kernel be built from smaller ones; return how many there are.

    Versions before 10.14 have no attention layer: their parsers write MatMuls and a softmax themselves.
    """
    kind = getattr(trt.LayerType, "ATTENTION_OUTPUT", None)
    if kind is None:
        return 0
    found = [network.get_layer(i) for i in range(network.num_layers) if network.get_layer(i).type == kind]
    for layer in found:
        layer.__class__ = trt.IAttentionOutputLayer
        layer.attention.decomposable = True
    return len(found)


def _version(text: str) -> tuple[int, int]:
    numbers = [int(part) for part in re.findall(r"\d+", text)[:2]]
    return (numbers[0], numbers[1])


def local_architecture() -> str | None:
    """Return the architecture of this machine's first GPU as `sm_100`; None where nvidia-smi finds none."""
    found = find_gpus().found
    return found[0].architecture if found else None
