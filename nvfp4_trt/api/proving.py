"""From a model to a folder that shows it: exported, built, audited, compared, run, timed, reported."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nvfp4_trt.api.benching import bench
from nvfp4_trt.api.building import build
from nvfp4_trt.api.comparing import compare
from nvfp4_trt.api.exporting import export
from nvfp4_trt.api.reporting import report
from nvfp4_trt.atomic import output_tree
from nvfp4_trt.benching import NEED_A_GPU, Proof, ProofStage, ready_to_run, run_engine
from nvfp4_trt.building import EngineArtifact, choose_backend, record_of
from nvfp4_trt.checkpoints import is_checkpoint
from nvfp4_trt.comparison import compared
from nvfp4_trt.comparison.saved import read_feeds, read_outputs
from nvfp4_trt.errors import OutputUnwritableError, WrongKindError
from nvfp4_trt.loading import Inputs
from nvfp4_trt.reporting import check_packages
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nvfp4_trt.api.sources import GivenInputs, Source
    from nvfp4_trt.benching.proof import StageName
    from nvfp4_trt.comparison import Comparison
    from nvfp4_trt.exporting import OnnxArtifact
    from nvfp4_trt.timing import Effort

MODEL, LOWERED, ENGINE = "model.onnx", "model.trt.onnx", "model.engine"
INPUTS, OUTPUTS, BENCH = "inputs.json", "reference.json", "bench.json"


def prove(
    model: Source,
    output: str | Path,
    *,
    gpu: bool = True,
    against: str | None = "bf16",
    inputs: GivenInputs = None,
    input_specs: Sequence[str] = (),
    seed: int = 0,
    factory: str | None = None,
    trust_pickle: bool = False,
    dtype: str | None = None,
    backend: str | None = None,
    targets: Sequence[str] = (),
    dims: Sequence[str] = (),
    effort: Effort | None = None,
    **exporting: Any,
) -> Proof:
    """Export, build, audit, compare, run, time and report a model; leave all of it in one folder.

    Not yet run on a Blackwell GPU by this project; without one, `gpu=False` leaves out what needs it.

    Args:
        model: as `export` takes it.
        output: a new folder; it appears whole or not at all.
        gpu: whether to run and time the engine. What is missing for that is refused before anything is done.
        against: what the engine is timed beside: `bf16`, `fp16` or None.
        inputs: as for `export`; the engine is run and timed on the first batch.
        input_specs: as for `export`.
        seed: as for `export`.
        factory: as for `export`.
        trust_pickle: as for `export`.
        dtype: as for `export`.
        backend: as for `build`.
        targets: as for `build`; by default this machine's GPU, or without one the backend's default.
        dims: as for `build`.
        effort: how long to time.
        exporting: more keywords of `export`: `recipe`, `dynamic`, `only`, `exclude`, `fp8`, `fix`, `weights`.

    Raises:
        GpuMissingError, GpuUnsupportedError, DependencyMissingError: the engine cannot be run here.
        OutputUnwritableError: the folder exists, or cannot be made.
        WrongKindError: the model is a quantized checkpoint.
        Nvfp4Error: any other of the functions that it calls.
    """
    folder = Path(output)
    if folder.exists():
        raise OutputUnwritableError(f"{folder} exists already", "name a new folder with -o")
    if isinstance(model, (str, Path)) and is_checkpoint(Path(model)):
        raise WrongKindError(
            f"{model} is quantized already, and there is no float model to compare with",
            "export it, and build engine: each tells what it did",
        )
    chosen = choose_backend(backend)
    check_packages()
    here = ready_to_run(chosen, targets) if gpu else None
    goals = chosen.goals(targets or ((here.architecture,) if here else ()))
    source: dict[str, Any] = {
        "inputs": inputs if inputs is None or isinstance(inputs, (str, Path, Inputs)) else tuple(inputs),
        "input_specs": input_specs,
        "seed": seed,
        "factory": factory,
        "trust_pickle": trust_pickle,
        "dtype": dtype,
    }
    with output_tree(folder) as new:
        steps = _Steps(new)
        exported = _export(steps, new, model, {**source, **exporting})
        engine = _build(steps, new, backend=chosen.name, targets=goals, dims=dims)
        _compare(steps, new, model, source)
        if here is None:
            steps.leave_out(NEED_A_GPU, "needs the GPU; --without-gpu was given")
        else:
            _on_gpu(steps, new, engine, against, effort)
        _report(steps, new, model, source, bench=None if here is None else new / BENCH)
        proof = Proof(
            model=str(model) if isinstance(model, (str, Path)) else type(model).__name__,
            recipe=str(exported.metadata.recipe["name"]),
            folder=str(folder),
            gpu="" if here is None else here.name,
            backend=engine.record.backend,
            version=engine.record.version,
            targets=engine.record.targets,
            stages=tuple(steps.done),
        )
        (new / "summary.json").write_text(proof.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    return proof


def _export(steps: _Steps, new: Path, model: Source, options: Mapping[str, Any]) -> OnnxArtifact:
    with steps.step("export") as said:
        exported = export(model, new / MODEL, **options)
        quantized = sum(layer.quantized for layer in exported.layers)
        said.append(f"{quantized} of {len(exported.layers)} layers are quantized")
    return exported


def _build(
    steps: _Steps, new: Path, *, backend: str, targets: Sequence[str], dims: Sequence[str]
) -> EngineArtifact:
    with steps.step("build") as said:
        made = build(new / MODEL, new / ENGINE, backend=backend, targets=targets, dims=dims, lowered=new / LOWERED)
        engine = _named_within(made, new)
        asked, fp4 = engine.audit.counts()
        said.append(f"{fp4} of {asked} GEMMs are FP4 by the engine's own record")
    return engine


def _compare(steps: _Steps, new: Path, model: Source, source: Mapping[str, Any]) -> None:
    """Compare on ONNX Runtime, and keep inputs and reference outputs for what comes after."""
    with steps.step("compare") as said:
        saved: dict[str, Any] = {"save_inputs": new / INPUTS, "save_outputs": new / OUTPUTS}
        found = compare(new / MODEL, model, **source, **saved)
        said.append(f"ONNX Runtime against the float model: {_told(found)}")


def _report(steps: _Steps, new: Path, model: Source, source: Mapping[str, Any], *, bench: Path | None) -> None:
    with steps.step("report") as said:
        report(new / MODEL, new / "report.html", engine=new / ENGINE, reference=model, bench=bench, **source)
        said.append("one page, with each layer's error and activations")


def _named_within(made: EngineArtifact, folder: Path) -> EngineArtifact:
    """Let the record name files as they lie in the folder: where it is made, it will not stay."""
    record = made.record.model_copy(update={"trtexec": made.record.trtexec.replace(f"{folder}/", "")})
    record_of(made.path).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return EngineArtifact(made.path, record)


def _on_gpu(steps: _Steps, new: Path, engine: EngineArtifact, against: str | None, effort: Effort | None) -> None:
    """Run the engine on the first batch, hold it against the float model, and time it."""
    given = new / "inputs.npz"
    first: dict[str, Any] = read_feeds(new / INPUTS)[0]
    with steps.step("run") as said:
        np.savez(given, **first)
        ran = run_engine(engine.path, inputs=given, output=new / "outputs.npz")
        name, reference = read_outputs(new / OUTPUTS)
        found = compared([dict(reference[0].items())], [ran.outputs], name, engine.path.name)
        said.append(f"the engine against the float model: {_told(found)}")
    with steps.step("bench") as said:
        timed = bench(engine, against=against, inputs=given, output=new / BENCH, effort=effort)
        row = timed.results[0]
        said.append(f"{row.median_ms:.4f} ms, {row.rows_per_second:,.0f} rows/s")
        if timed.speedup is not None:
            said.append(f"{against} takes {timed.speedup:.2f} times as long")


def _told(found: Comparison) -> str:
    worst = min(found.outputs, key=lambda each: each.sqnr_db)
    return f"{worst.name} has {worst.sqnr_db:.2f} dB, cosine {worst.cosine:.6f}"


class _Steps:
    """Collects what each stage did, and which files it left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.done: list[ProofStage] = []

    @contextmanager
    def step(self, name: StageName) -> Iterator[list[str]]:
        """Yield the list of what the stage says."""
        before, started = self._files(), time.monotonic()
        said: list[str] = []
        with stage(name):
            yield said
        self.done.append(
            ProofStage(
                name=name,
                done=True,
                said="; ".join(said),
                seconds=round(time.monotonic() - started, 3),
                files=tuple(sorted(self._files() - before)),
            )
        )

    def leave_out(self, names: Sequence[StageName], why: str) -> None:
        """Note stages that are not run."""
        self.done += [ProofStage(name=name, done=False, said=why, seconds=0.0, files=()) for name in names]

    def _files(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}
