"""`nvfp4-trt build engine FILE -o ENGINE`, or a folder of engines with `--buckets`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvfp4_trt.cli.bucket_options import BucketOptions, bucket_options, build_set, check_alone
from nvfp4_trt.cli.build_plugin import plugin as build_plugin
from nvfp4_trt.cli.goal_options import backend_option, dim_option, target_option
from nvfp4_trt.cli.output import output_options, print_result, working
from nvfp4_trt.cli.plugin_option import PluginCommand, chosen_plugin, plugin_options
from nvfp4_trt.cli.search_options import search_options

if TYPE_CHECKING:
    from nvfp4_trt.building import Optimize
    from nvfp4_trt.building.spec import PluginForm


@click.group()
def build() -> None:
    """Build engines, and the kernels of the plugin."""


build.add_command(build_plugin)


@build.command(cls=PluginCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The engine to write.")
@backend_option
@target_option
@dim_option
@click.option(
    "--allow-higher-precision",
    "allow",
    multiple=True,
    metavar="PATTERN",
    help="Accept that the layers that match are not FP4 in the engine.",
)
@plugin_options
@click.option(
    "--plugin-library",
    type=click.Path(path_type=Path),
    metavar="LIBRARY",
    help="Build with the C++ plugin, libnvfp4_plugin.so, instead of the Python one. Implies --plugin.",
)
@click.option(
    "--plugin-form",
    type=click.Choice(["jit", "aot"]),
    default="jit",
    show_default=True,
    help="With --plugin: kernels that Python launches when the engine runs, or kernels inside the engine.",
)
@search_options
@bucket_options
@click.option("--lowered", type=click.Path(path_type=Path), help="Keep the lowered ONNX file here.")
@click.option("--log", type=click.Path(path_type=Path), help="Keep TensorRT's log here.")
@output_options
def engine(
    *,
    model: Path,
    output: Path,
    backend: str | None,
    targets: tuple[str, ...],
    dims: tuple[str, ...],
    allow: tuple[str, ...],
    plugin: str | None,
    no_plugin: bool,
    plugin_library: Path | None,
    plugin_form: PluginForm,
    optimize: Optimize,
    gpu: str | None,
    budget: float | None,
    cache: bool,
    lowered: Path | None,
    log: Path | None,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
    **for_buckets: Any,
) -> None:
    """Lower MODEL, build an engine from it and audit that its GEMMs are FP4.

    The layer record and the audit appear beside the engine as OUTPUT.json. A requested GEMM that is not FP4
    fails the build. With --buckets, OUTPUT is a folder of engines, each audited, with a manifest.

    Example: nvfp4-trt build engine model.onnx -o model.engine --target sm_120 --dim batch=1:8:64
    """
    options: dict[str, Any] = {
        "backend": backend,
        "targets": targets,
        "dims": dims,
        "allow_higher_precision": allow,
        "plugin": chosen_plugin(plugin, no_plugin=no_plugin, library=plugin_library, form=plugin_form),
        "plugin_library": plugin_library,
        "plugin_form": plugin_form,
        "lowered": lowered,
        "log": log,
        "optimize": optimize,
        "gpu": gpu,
        "budget": budget,
        "cache": cache,
    }
    given = BucketOptions(**for_buckets)
    if given.buckets:
        build_set(model, output, given, as_json=as_json, **options)
        return
    check_alone(given)
    with working(f"building {output}"):
        from nvfp4_trt import api
        from nvfp4_trt.printing import engine_object, engine_summary

        artifact = api.build(model, output, **options)
    print_result(
        engine_object(artifact.record, str(artifact.path)),
        as_json=as_json,
        people=lambda: engine_summary(artifact.record, str(artifact.path)),
    )
