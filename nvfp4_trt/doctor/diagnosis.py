"""Which engines a machine can build and run, from its GPUs and its software."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.building.backends import BACKENDS
from nvfp4_trt.building.gpus import find_gpus
from nvfp4_trt.doctor.software import backends, packages, programs

if TYPE_CHECKING:
    from nvfp4_trt.building.backends import Backend
    from nvfp4_trt.building.gpus import Gpu, Gpus
    from nvfp4_trt.doctor.software import Software


class Target(NamedTuple):
    """One backend's engines for one GPU architecture, on this machine."""

    architecture: str
    backend: str
    builds: bool
    runs: bool
    reason: str
    """Why it does not build or run; empty where it does both."""


@dataclass(frozen=True)
class Diagnosis:
    """What this machine has, and what follows."""

    python: str
    system: str
    gpus: Gpus
    software: tuple[Software, ...]
    targets: tuple[Target, ...]

    @property
    def missing(self) -> tuple[Software, ...]:
        """What is not there or does not work."""
        return tuple(each for each in self.software if not each.works)


def diagnose() -> Diagnosis:
    """Look at this machine: its driver and GPUs, TensorRT, Python packages and compilers.

    Nothing is built or run, and no GPU memory is taken. `runs` says that the architecture and the backend are
    there; that an engine really runs is not tried.
    """
    gpus = find_gpus()
    modules = backends()
    found = (*modules, *packages(), *programs())
    targets = tuple(
        _target(BACKENDS[backend], module, architecture, gpus)
        for backend, module in zip(BACKENDS, modules, strict=True)
        for architecture in BACKENDS[backend].targets
    )
    return Diagnosis(platform.python_version(), platform.platform(), gpus, found, targets)


def _target(backend: Backend, module: Software, architecture: str, gpus: Gpus) -> Target:
    here = [gpu.architecture for gpu in gpus.found]
    if not module.works:
        reason = module.trouble or f"{backend.name} is not installed"
        return Target(architecture, backend.name, builds=False, runs=False, reason=reason)
    if architecture in here:
        return Target(architecture, backend.name, builds=True, runs=True, reason="")
    missing = f"no {architecture} GPU here{_only(gpus.found)}"
    if backend.cross_compiles:
        return Target(architecture, backend.name, builds=True, runs=False, reason=missing)
    return Target(
        architecture, backend.name, builds=False, runs=False, reason=f"{missing}, and it builds on none other"
    )


def _only(gpus: tuple[Gpu, ...]) -> str:
    return f", only {', '.join(f'{gpu.name} ({gpu.architecture})' for gpu in gpus)}" if gpus else ""
