"""Options of commands that build an engine or plan one: with which TensorRT, for which GPU, in which ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.completing import complete_target

if TYPE_CHECKING:
    from collections.abc import Callable


def backend_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--backend`."""
    return click.option(
        "--backend",
        type=click.Choice(["tensorrt", "tensorrt_rtx"]),
        help="Full TensorRT, or TensorRT-RTX, which cross-compiles. Default: full where it is installed.",
    )(function)


def target_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--target`."""
    return click.option(
        "--target",
        "targets",
        multiple=True,
        metavar="SM",
        shell_complete=complete_target,
        help="GPU architecture: sm_120, sm_121 (TensorRT-RTX; repeat for both), sm_100, sm_103 (full TensorRT).",
    )(function)


def dim_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--dim`."""
    return click.option(
        "--dim",
        "dims",
        multiple=True,
        metavar="NAME=MIN:OPT:MAX",
        help="Range of a dynamic dimension; NAME=N for one extent. Default: 1 to 4 times the example's.",
    )(function)
