"""A portable file → a serving set: an engine for each bucket, a dynamic one beside them, a manifest."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from nvfp4_trt.atomic import check_writable, output_file, output_tree
from nvfp4_trt.building import EngineRecord, build_engine
from nvfp4_trt.building.backends import DEFAULT_TARGET
from nvfp4_trt.costing import gpu_for
from nvfp4_trt.errors import BucketsInvalidError, OutputUnwritableError
from nvfp4_trt.serving.costs import Costs
from nvfp4_trt.serving.manifest import MANIFEST, Manifest, ModelEntry, is_serving_set, sha256
from nvfp4_trt.serving.padding import unmasked_dims
from nvfp4_trt.serving.parts import Made, bucket_entries, dynamic_entry, profiles_of
from nvfp4_trt.serving.request import Request, read_request
from nvfp4_trt.serving.shared import build_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nvfp4_trt.serving.buckets import Given

MODEL, ENGINES, DYNAMIC, SHARED = "model.onnx", "engines", "dynamic.engine", "shared.engine"
_RECORD_SUFFIX = ".json"
_ONE_ENGINE_ONLY = ("lowered",)
_NO_PROFILES = ("plugin", "plugin_library")
_SHARED_OPTIONS = ("backend", "targets", "allow")


@dataclass(frozen=True)
class ServingSet:
    """A folder of engines for one model, with a manifest."""

    path: Path
    manifest: Manifest
    records: dict[str, EngineRecord]
    """Engine file → its record."""


def build_buckets(
    source: Path,
    folder: Path,
    *,
    buckets: Given,
    pads: Sequence[str] = (),
    with_dynamic: bool = True,
    share_weights: bool = False,
    dims: Sequence[str] = (),
    gpu: str | None = None,
    log: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> ServingSet:
    """Build an engine for each bucket and one for every other shape, each audited.

    Args:
        source: a file that `nvfp4-trt export` wrote, with dynamic dimensions.
        folder: the folder to make, whole or not at all. A serving set that is there is replaced, no other folder.
        buckets: see `parse_buckets`.
        pads: what inputs are padded with, `NAME=NUMBER`; by default 0.
        with_dynamic: also build the dynamic engine.
        share_weights: build one engine with a profile for each bucket (and one for the dynamic shapes), which has
            the weights once, instead of an engine for each.
        dims: ranges of the dynamic engine, `NAME=MIN:OPT:MAX`; by default from 1 to the buckets' largest extents.
        gpu: the GPU that times are modelled on, see `costing.find_gpu`; by default one of the first target.
        log: where to keep TensorRT's logs, one after the other; also kept where a build fails.
        say: called with what is being built.
        options: of `nvfp4_trt.building.build_engine`, for every engine, but `lowered`. With `share_weights`, no
            plugin; and the lowering is the plain one, without a search.

    Raises:
        BucketsInvalidError: the buckets or padding values do not fit the model, or the options each other.
        InputSpecError: an option's syntax.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`; or the folder is there and no serving set.
        UnknownGpuError: see `costing.find_gpu`.
        Nvfp4Error: see `nvfp4_trt.building.build_engine`.
    """
    _check_place(folder)
    _check_options(options, share_weights=share_weights)
    if log is not None:
        check_writable(log)
    chosen = gpu_for(options.get("targets") or (DEFAULT_TARGET,), gpu)
    request = read_request(source, buckets, pads, dims, with_dynamic=with_dynamic)
    costs = Costs(source, request.inputs, chosen)
    with output_tree(folder) as scratch, _logs(scratch, log) as logs:
        (scratch / ENGINES).mkdir()
        model = _copy_model(request, scratch)
        if share_weights:
            say(f"{len(request.buckets)} buckets, one engine")
            taken = {name: options[name] for name in _SHARED_OPTIONS if name in options}
            parts = [build_shared(request, scratch / ENGINES / SHARED, costs=costs, log=logs / SHARED, **taken)]
        else:
            searched = {**options, "gpu": chosen.name}
            parts = list(_engines(request, scratch, costs, logs, say, searched))
        for part in parts:
            _settle(part, scratch, folder)
        manifest = _manifest(request, model, parts, scratch, gpu=chosen.name, shared=share_weights)
        (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    return ServingSet(folder, manifest, {part.file(scratch): part.record for part in parts})


def _check_options(options: Mapping[str, Any], *, share_weights: bool) -> None:
    """Refuse options of one engine, and options that do not exist."""
    unknown = set(options) - set(signature(build_engine).parameters)
    if unknown:
        raise TypeError(f"build_engine() takes no {min(unknown)!r}")
    for name in _ONE_ENGINE_ONLY:
        if options.get(name):
            raise BucketsInvalidError(f"--{name} is of one engine, and --buckets builds several", f"drop --{name}")
    for name in _NO_PROFILES if share_weights else ():
        if options.get(name):
            raise BucketsInvalidError("--share-weights builds no plugins", "drop --share-weights or --plugin")


def _check_place(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not is_serving_set(folder):
        raise OutputUnwritableError(
            f"{folder} is there already and holds something else than a serving set",
            "name a folder that is not there, or delete it first",
        )


def _copy_model(request: Request, scratch: Path) -> ModelEntry:
    shutil.copyfile(request.source, scratch / MODEL)
    for name in request.data:  # the model names them, so they keep their names
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(request.source.parent / name, scratch / name)
    return ModelEntry(
        file=MODEL,
        data=request.data,
        sha256=sha256(scratch / MODEL),
        recipe=request.metadata.recipe["name"],
        activation_scaling=request.metadata.recipe["activations"]["scaling"],
        source_sha256=request.metadata.source_sha256,
    )


def _engines(
    request: Request,
    scratch: Path,
    costs: Costs,
    logs: Path,
    say: Callable[[str], None],
    options: Mapping[str, Any],
) -> Iterator[Made]:
    """Yield an engine for each bucket, and then the dynamic one."""
    asked = [(f"{ENGINES}/{bucket.name}.engine", bucket.specs, bucket.as_dict()) for bucket in request.buckets]
    if request.ranges:
        asked.append((DYNAMIC, request.range_specs, request.preferred))
    for name, specs, extents in asked:
        say(name)
        path = scratch / name
        log = logs / path.name
        record = build_engine(request.source, path, dims=specs, log=log, **options).record
        yield Made(path, record, profiles_of([record.rows], [extents], costs, log, record.form))


def _settle(part: Made, scratch: Path, folder: Path) -> None:
    """Write a record anew, with the paths that files will have."""
    line = part.record.trtexec.replace(str(scratch), str(folder))
    part.record = part.record.model_copy(update={"trtexec": line})
    written = part.path.with_name(part.path.name + _RECORD_SUFFIX)
    written.write_text(part.record.model_dump_json(indent=1), encoding="utf-8")


def _manifest(
    request: Request, model: ModelEntry, parts: Sequence[Made], root: Path, *, gpu: str, shared: bool
) -> Manifest:
    first = parts[0].record
    return Manifest(
        model=model,
        backend=first.backend,
        version=first.version,
        targets=first.targets,
        gpu=gpu,
        plugin=first.plugin,
        dims=request.dims,
        batch=request.batch,
        unmasked=unmasked_dims(request.inputs, request.dims, request.batch),
        shared_weights=shared,
        inputs=request.inputs,
        outputs=request.outputs,
        buckets=bucket_entries(request.buckets, parts, root),
        dynamic=dynamic_entry(request.ranges, parts, root),
    )


@contextmanager
def _logs(scratch: Path, kept: Path | None) -> Iterator[Path]:
    """Yield a folder for one log an engine; in the end they become the one that is to be kept, in their order."""
    folder = scratch / ".logs"
    folder.mkdir()
    try:
        yield folder
    finally:
        if kept is not None:
            with output_file(kept) as place, place.open("w", encoding="utf-8") as out:
                for log in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime):
                    out.write(f"== {log.name}\n{log.read_text(encoding='utf-8', errors='replace')}")
        shutil.rmtree(folder)
