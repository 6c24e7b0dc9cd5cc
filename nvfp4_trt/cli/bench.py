"""`nvfp4-trt bench ENGINE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nvfp4_trt.cli.engine_options import engine_options
from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.argument("engine", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the result (.json).")
@click.option(
    "--against",
    type=click.Choice(["bf16", "fp16"]),
    help="Also build and time an engine of the same model without quantizers.",
)
@click.option(
    "--onnx",
    "model",
    type=click.Path(path_type=Path),
    help="With --against: the portable file of ENGINE. Default: the one beside it under its name.",
)
@click.option("--warmup", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="SECONDS")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Of samples, launched one by one and as a CUDA graph each; at least 50.",
)
@click.option("--no-graph", is_flag=True, help="Do not time a CUDA graph.")
@engine_options
@output_options
def bench(
    engine: Path,
    output: Path | None,
    against: str | None,
    model: Path | None,
    warmup: float,
    seconds: float,
    no_graph: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **options: Any,
) -> None:
    """Time ENGINE on this machine's GPU, beside the time that the cost model says.

    Not yet run on a Blackwell GPU by this project.

    Example: nvfp4-trt bench model.engine --against bf16 -o bench.json
    """
    if model is not None and against is None:
        raise click.UsageError("--onnx goes with --against: an engine alone needs no model")
    with working(f"timing {engine}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing.bench import bench_summary
        from nvfp4_trt.timing import Effort

        made = api.bench(
            engine,
            against=against,
            model=model,
            output=output,
            effort=Effort(warmup_seconds=warmup, seconds=seconds),
            graph=not no_graph,
            **options,
        )
    print_result(made.as_dict(), as_json=as_json, people=lambda: bench_summary(made, output))
