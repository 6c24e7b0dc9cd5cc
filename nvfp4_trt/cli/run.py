"""`nvfp4-trt run ENGINE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.engine_options import engine_options
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("engine", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the outputs (.npz).")
@engine_options
@output_options
def run(
    engine: Path,
    output: Path | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **options: Any,
) -> None:
    """Run ENGINE once on this machine's GPU, and show what comes out.

    Not yet run on a Blackwell GPU by this project.

    Example: nvfp4-trt run model.engine --inputs inputs.npz -o outputs.npz
    """
    with working(f"running {engine}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing.bench import run_summary

        made = api.run(engine, output=output, **options)
    print_result(made.as_dict(), as_json=as_json, people=lambda: run_summary(made, output))
