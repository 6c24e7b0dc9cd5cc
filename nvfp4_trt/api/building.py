"""From a portable ONNX file to engines, and the kernels of the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.api.sources import model_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvfp4_trt.building import EngineArtifact, Optimize
    from nvfp4_trt.building.spec import PluginForm
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.kernels import Pack
    from nvfp4_trt.serving import ServingSet


def build(
    model: str | Path | OnnxArtifact,
    output: str | Path,
    *,
    backend: str | None = None,
    targets: Sequence[str] = (),
    dims: Sequence[str] = (),
    allow_higher_precision: Sequence[str] = (),
    plugin: bool | str | Path = False,
    plugin_library: str | Path | None = None,
    plugin_form: PluginForm = "jit",
    lowered: str | Path | None = None,
    log: str | Path | None = None,
    optimize: Optimize = "fast",
    gpu: str | None = None,
    budget: float | None = None,
    cache: bool = True,
) -> EngineArtifact:
    """Lower a portable ONNX file, build an engine from it in a child process, and audit the engine.

    Args: and raises: see `nvfp4_trt.building.build_engine`.
    """
    from nvfp4_trt.building import build_engine

    return build_engine(
        model_path(model),
        Path(output),
        backend=backend,
        targets=targets,
        dims=dims,
        allow=allow_higher_precision,
        plugin=plugin if isinstance(plugin, bool) else Path(plugin),
        plugin_library=None if plugin_library is None else Path(plugin_library),
        plugin_form=plugin_form,
        lowered=None if lowered is None else Path(lowered),
        log=None if log is None else Path(log),
        optimize=optimize,
        gpu=gpu,
        budget=budget,
        cache=cache,
    )


def build_buckets(
    model: str | Path | OnnxArtifact,
    folder: str | Path,
    *,
    buckets: str | Sequence[str | Mapping[str, int]],
    pads: Sequence[str] = (),
    with_dynamic: bool = True,
    share_weights: bool = False,
    allow_higher_precision: Sequence[str] = (),
    log: str | Path | None = None,
    **options: Any,
) -> ServingSet:
    """Build an engine for each of several fixed shapes, a dynamic one beside them, and a manifest: a serving set.

    Args: and raises: see `nvfp4_trt.serving.build_buckets`; other keywords are those of `build`.
    """
    from nvfp4_trt.serving import build_buckets as build_set

    return build_set(
        model_path(model),
        Path(folder),
        buckets=buckets,
        pads=pads,
        with_dynamic=with_dynamic,
        share_weights=share_weights,
        allow=allow_higher_precision,
        log=None if log is None else Path(log),
        **options,
    )


def build_plugin(
    output: str | Path,
    *,
    sms: Sequence[int] = (),
    kernels: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    force: bool = False,
) -> Pack:
    """Compile the kernels of the TensorRT plugin into a folder of cubins and a manifest; needs no GPU.

    Args: and raises: see `nvfp4_trt.kernels.build.build_pack`.
    """
    from nvfp4_trt.kernels.build import build_pack

    return build_pack(output, sms=sms, kernels=kernels, dtypes=dtypes, force=force)
