"""What `doctor` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvfp4_trt.printing.tables import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nvfp4_trt.doctor import Diagnosis


def doctor_object(found: Diagnosis) -> dict[str, Any]:
    """Return the JSON object of a diagnosis."""
    return {
        "python": found.python,
        "system": found.system,
        "driver": found.gpus.driver,
        "gpu_trouble": found.gpus.trouble,
        "gpus": [gpu._asdict() for gpu in found.gpus.found],
        "software": [each._asdict() | {"works": each.works} for each in found.software],
        "targets": [target._asdict() for target in found.targets],
    }


def doctor_summary(found: Diagnosis) -> list[RenderableType]:
    """Return a diagnosis for people: the machine, its software, its targets, and what to install."""
    gpus = [
        (f"GPU {i}", f"{gpu.name}, {gpu.architecture}, {_memory(gpu.memory_mib)}")
        for i, gpu in enumerate(found.gpus.found)
    ]
    machine = [
        ("Python", found.python),
        ("system", found.system),
        ("driver", found.gpus.driver or found.gpus.trouble),
        *gpus,
    ]
    software = [(x.name, x.version or "not there", x.purpose, x.trouble) for x in found.software]
    targets = [(t.architecture, t.backend, _yes(t.builds), _yes(t.runs), t.reason) for t in found.targets]
    parts: list[RenderableType] = [
        table("Machine", ("", ""), machine),
        "",
        table("Software", ("name", "version", "for", "trouble"), software),
        "",
        table("Engines", ("target", "backend", "builds", "runs", "why not"), targets),
    ]
    if found.missing:
        parts += ["", table("To install", ("name", "how"), [(x.name, x.install) for x in found.missing])]
    return parts


def _memory(mib: int) -> str:
    return f"{mib:,} MiB" if mib else "memory not told"


def _yes(what: bool) -> str:
    return "yes" if what else "no"
