"""The GPUs and their driver, as `nvidia-smi` names them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from typing import NamedTuple

_FIELDS = ("name", "compute_cap", "memory.total", "driver_version")
_PATIENCE = 20.0
"""Seconds after which a driver that does not answer counts as broken."""


class Gpu(NamedTuple):
    """One GPU."""

    name: str
    architecture: str
    """As `sm_120`."""
    memory_mib: int
    """0 where the driver does not tell, as on GPUs that share the host's memory."""


class Gpus(NamedTuple):
    """What the driver told."""

    driver: str
    """Its version; empty where there is none."""
    found: tuple[Gpu, ...]
    trouble: str
    """Why nothing is known, in words; empty where the driver answered."""


def find_gpus() -> Gpus:
    """Ask `nvidia-smi`, which every driver brings, for the GPUs of this machine."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Gpus("", (), "nvidia-smi is not on the PATH: no NVIDIA driver")
    query = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpus("", (), f"nvidia-smi does not answer: {error}")
    if told.returncode:
        reason = (told.stdout + told.stderr).strip().splitlines() or [f"exit status {told.returncode}"]
        return Gpus("", (), f"nvidia-smi: {reason[0]}")
    rows = [row for row in csv.reader(told.stdout.splitlines(), skipinitialspace=True) if len(row) == len(_FIELDS)]
    if not rows:
        return Gpus("", (), "nvidia-smi lists no GPU")
    return Gpus(rows[0][3], tuple(_gpu(*row[:3]) for row in rows), "")


def _gpu(name: str, capability: str, memory: str) -> Gpu:
    return Gpu(name, f"sm_{capability.replace('.', '')}", int(memory) if memory.isdigit() else 0)
