"""What a shell completes where a value is neither a file nor one of a few: recipes, GPUs, architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a built-in recipe, or else a file."""
    from nvfp4_trt.recipe import RECIPES

    names = [name for name in RECIPES if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def complete_gpu(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a GPU that costs are modelled on."""
    from nvfp4_trt.costing import GPUS

    return [CompletionItem(gpu.name, help=gpu.title) for gpu in GPUS.values() if gpu.name.startswith(incomplete)]


def complete_target(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a GPU architecture that a backend builds for."""
    from nvfp4_trt.building.backends import BACKENDS

    known = dict.fromkeys(target for backend in BACKENDS.values() for target in backend.targets)
    return [CompletionItem(target) for target in known if target.startswith(incomplete)]


def complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file, of an option that takes other things too."""
    return [CompletionItem(incomplete, type="file")]


def complete_code(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an error code."""
    from nvfp4_trt.explanations import explanations

    known = explanations().values()
    return [CompletionItem(each.code, help=each.what) for each in known if each.code.startswith(incomplete)]
