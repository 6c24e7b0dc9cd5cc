"""Run a command as a whole child process and measure it; read results back. Shared by the benchmarks here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOG_TAIL = 4000


@dataclass(frozen=True)
class Measured:
    """One child, from start to exit.

    `peak_bytes` is the kernel's own high-water mark of resident memory (`ru_maxrss`), of the child or of
    any process that it waited for, whichever is higher.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stdout: str


def measure(command: Sequence[str | Path], *, env: dict[str, str] | None = None) -> Measured:
    """Run `command` and return what it took.

    A child's high-water mark starts from that of the process that forked it, so callers keep themselves
    small: no torch, no onnx in the parent before the last measurement.

    Args:
        command: a program and its arguments.
        env: variables to set on top of the present ones.

    Raises:
        SystemExit: the command failed; the message ends with what it printed last.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=err, env={**os.environ, **(env or {})}
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        stdout = out.read().decode(errors="replace")
        if child.returncode:
            said = (stdout + err.read().decode(errors="replace"))[-LOG_TAIL:]
            sys.exit(f"{' '.join(map(str, command))}\nexited with {child.returncode}:\n{said}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, stdout)


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON object that ends `text`: its last line, or the whole of it if pretty-printed."""
    lines = text.strip().splitlines() or ["{}"]
    try:
        found = json.loads(lines[-1])
    except json.JSONDecodeError:
        found = json.loads(text)
    return dict(found)
