"""A file, the quantized torch model and the float model, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvfp4_trt.comparison.compare import run_all
from nvfp4_trt.comparison.disagreement import ONNX, first_disagreement
from nvfp4_trt.comparison.fit import check_feeds, check_layers, check_taps
from nvfp4_trt.comparison.layer_result import (
    Agreement,
    BackendMetrics,
    LayerComparison,
    LayerMetrics,
)
from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.comparison.nonfinite import first_nonfinite
from nvfp4_trt.errors import InputsMismatchError
from nvfp4_trt.portable import load, save
from nvfp4_trt.runners import TorchRunner, as_feed
from nvfp4_trt.tapping import (
    Copies,
    LayersAlone,
    TappedRunner,
    alone,
    between,
    differing,
    find_points,
    form_of,
    input_tap,
    output_tap,
    tapped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygraphy.backend.base import BaseRunner
    from torch import nn

    from nvfp4_trt.comparison.layer_result import Nonfinite
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.quantization import QuantizedModel
    from nvfp4_trt.runners.arrays import Feed
    from nvfp4_trt.tapping import Call, Point

TORCH = "torch"
BOUNDS_DB = {"float32": 90.0, "float16": 50.0, "bfloat16": 35.0}
"""SQNR that a layer, or what is between two, reaches in two backends that compute the same, by the dtype of what
enters layers: they add in another order and round where the other does not."""


def compare_layers(
    onnx_path: Path,
    reference: nn.Module,
    quantized: QuantizedModel,
    batches: Sequence[Batch],
    *,
    names: Sequence[str] | None = None,
    bound_db: float | None = None,
    save_tapped: Path | None = None,
    whole: Mapping[str, BaseRunner] | None = None,
) -> LayerComparison:
    """Compare what enters and leaves each quantized layer in the float model, the quantized one and the file.

    The batches are run one at a time; the inputs and outputs of the layers looked at are in memory for each of the
    three meanwhile.

    Args:
        onnx_path: what `exporting.export_module` wrote.
        reference: the float module, its attention opened (`quantization.open_attention`), in eval mode.
        quantized: the quantized form of it, which the file should compute.
        batches: see `compare_onnx`.
        names: the layers to look at; all that are quantized by default. With some of them, what is between layers
            is not looked at: it has others in it, which carry what rounds otherwise.
        bound_db: SQNR that torch and the file are to reach at each layer on the same input; see `BOUNDS_DB`.
        save_tapped: where to write the file with what enters and leaves each layer among its outputs.
        whole: by name, runners of what was made from such a file: a lowered one, an engine.

    Raises:
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
        InputsMissingError, InputsMismatchError: the batches do not fit the file, or the three have different
            layers, or tensors of different shapes at one.
        ModelRunError: a module raised.
        OnnxRunError: ONNX Runtime refused the file, or failed in it.
    """
    model, metadata = load(onnx_path)
    feeds = [as_feed(batch) for batch in batches]
    check_feeds(feeds, model, metadata.example_shapes, str(onnx_path))
    check_layers(metadata.layers, quantized.layers, str(onnx_path))
    chosen = [layer.name for layer in quantized.layers if layer.quantized and layer.kind != "Embedding"]
    chosen = [name for name in chosen if names is None or name in names]
    with Copies(model, str(onnx_path)) as copies:
        work = _Work(onnx_path, copies, reference, quantized.module, chosen, batches[0], whole or {})
        work.gaps = names is None
        for feed in feeds:
            work.add(feed)
        if save_tapped is not None:
            save(tapped(copies.model, work.points).model, save_tapped)
        return work.result(bound_db)


@dataclass
class _Sums:
    """Of one call of a layer."""

    parts: dict[tuple[str, str], Accumulator] = field(default_factory=dict)

    def add(self, backend: str, what: str, name: str, pair: tuple[Feed, Feed]) -> None:
        reference, model = pair
        accumulator = self.parts.setdefault((backend, what), Accumulator(name))
        accumulator.add(reference[name], model[name])

    def of_backend(self, backend: str, stored: tuple[str, ...] = ()) -> BackendMetrics:
        own, between, layer, inherited, entering, leaving = (
            self.parts[backend, what].metrics() if (backend, what) in self.parts else None
            for what in ("own", "between", "layer", "inherited", "input", "output")
        )
        if inherited is None or entering is None or leaving is None:
            raise ValueError(f"{backend} was not run")
        near = None if layer is None else Agreement(between, layer, stored)
        return BackendMetrics(own, inherited, entering, leaving, near)


class _Work:
    """The runners, and the sums over all batches so far."""

    def __init__(
        self,
        path: Path,
        copies: Copies,
        reference: nn.Module,
        quantized: nn.Module,
        names: Sequence[str],
        example: Batch,
        whole: Mapping[str, BaseRunner],
    ) -> None:
        self.path, self.copies, self.whole = path, copies, whole
        self.float_layers = {name: reference.get_submodule(name) for name in names}
        self.layers = {name: quantized.get_submodule(name) for name in names}
        self.reference = TappedRunner(reference, example, self.float_layers, name="reference")
        self.quantized = TappedRunner(quantized, example, self.layers, name=TORCH)
        self.sums: dict[Call, _Sums] = {}
        self.outputs: dict[str, Accumulator] = {}
        self.nonfinite: dict[str, Nonfinite] = {}
        self.batches = 0
        self.gaps = True
        """Whether to look at what is between the layers."""
        self.points: list[Point] = []
        self.aliases: dict[str, str] = {}
        self.runners: dict[str, BaseRunner] = {}

    def add(self, feed: Feed) -> None:
        """Run one batch."""
        expected, got = self._run([self.reference, self.quantized], feed)
        check_taps(self.reference.calls, self.quantized.calls, expected, got)
        if not self.runners:
            self._prepare()
        file = self._run([self.runners["tapped"]], feed)[0]
        calls = [point.call for point in self.points]
        check_taps(calls, None, got, file, str(self.path))
        self._note_nonfinite(feed, {"reference": expected, TORCH: got, ONNX: file})
        self._against_float(TORCH, expected, got, self.reference.calls)
        self._against_float(ONNX, expected, file, calls)
        self._against_torch(feed, got)
        for backend, runner in self.whole.items():
            self._add_whole(backend, self._taps(backend, runner, feed), feed, expected, got)
        self.batches += 1

    def _prepare(self) -> None:
        """Find the calls in the graph, and make what runs layers without the rest."""
        calls, copies = self.quantized.calls, self.copies
        forms = {name: form_of(module) for name, module in self.layers.items()}
        self.points = find_points(copies.model.graph, calls, forms)
        self.sums = {call: _Sums() for call in calls}
        open_doors = tapped(copies.model, self.points)
        self.aliases = open_doors.aliases
        self.runners = {
            "tapped": copies.runner(open_doors, name="tapped"),
            f"{ONNX} alone": copies.runner(alone(copies.model, self.points), name="alone", fold=False),
            f"{TORCH} alone": TorchRunner(LayersAlone(self.layers, calls), self.quantized.entered),
            "float alone": TorchRunner(LayersAlone(self.float_layers, calls), self.reference.entered),
        }
        if self.gaps:
            self.runners["between"] = copies.runner(between(copies.model, self.points), name="between")

    def _against_float(self, backend: str, expected: Feed, got: Feed, calls: Sequence[Call]) -> None:
        """Add what a backend's layers inherit, add themselves where they run alone, and make of both."""
        own = self._run([self.runners[f"{backend} alone"]], expected)[0] if backend not in self.whole else None
        inherited = self._run([self.runners["float alone"]], {**expected, **got})[0]
        for call in calls:
            entering, leaving = input_tap(call), output_tap(call)
            self.sums[call].add(backend, "input", entering, (expected, got))
            self.sums[call].add(backend, "output", leaving, (expected, got))
            if own is not None:
                self.sums[call].add(backend, "own", leaving, (expected, own))
            self.sums[call].add(backend, "inherited", leaving, (expected, inherited))

    def _against_torch(self, feed: Feed, got: Feed) -> None:
        """Add how near the file is to torch at each layer and between them, where both are given the same."""
        near = self._run([self.runners[f"{ONNX} alone"]], got)[0]
        for call in self._calls():
            self.sums[call].add(ONNX, "layer", output_tap(call), (got, near))
        if not self.gaps:
            return
        apart = self._run([self.runners["between"]], {**got, **feed})[0]
        for call in self._calls():
            self.sums[call].add(ONNX, "between", input_tap(call), (got, apart))
        taps = {input_tap(point.call) for point in self.points}
        for name in apart:
            if name not in taps:
                self.outputs.setdefault(name, Accumulator(name)).add(got[name], apart[name])

    def _taps(self, backend: str, runner: BaseRunner, feed: Feed) -> Feed:
        """Run what was made from a tapped file."""
        made = self._run([runner], feed)[0]
        missing = next(
            (tap for tap in (*self.aliases.values(), *map(output_tap, self._calls())) if tap not in made), ""
        )
        if missing:
            raise InputsMismatchError(
                f"the {backend} has no output {missing}", "make it from the file that --save-tapped wrote"
            )
        return made | {tap: made[first] for tap, first in self.aliases.items()}

    def _add_whole(self, backend: str, made: Feed, feed: Feed, expected: Feed, got: Feed) -> None:
        """Add a backend whose layers do not run alone: torch's do, on what entered each of them there."""
        shaped = {
            tap: array.reshape(got[tap].shape) if tap in got and array.size == got[tap].size else array
            for tap, array in made.items()
        }
        check_taps(self._calls(), None, got, shaped, f"the {backend}")
        self._note_nonfinite(feed, {backend: shaped})
        self._against_float(backend, expected, shaped, self._calls())
        near = self._run([self.runners[f"{TORCH} alone"]], {**got, **shaped})[0]
        for call in self._calls():
            self.sums[call].add(backend, "layer", output_tap(call), (near, shaped))

    def _calls(self) -> list[Call]:
        return [point.call for point in self.points]

    def _note_nonfinite(self, feed: Feed, runs: dict[str, Feed]) -> None:
        for backend, run in runs.items():
            calls = self.quantized.calls if backend in {"reference", TORCH} else self._calls()
            found = first_nonfinite(feed, run, calls, backend=backend, batch=self.batches)
            if found is not None:
                self.nonfinite.setdefault(backend, found)

    def _run(self, runners: list[BaseRunner], feed: Feed) -> list[Feed]:
        return [dict(results[0].items()) for results in run_all(runners, [feed], self.path)]

    def result(self, bound_db: float | None) -> LayerComparison:
        """Return what was found in all batches."""
        bound = self._bound() if bound_db is None else bound_db
        rows = [self._row(call, position) for position, call in enumerate(self.sums)]
        ranked = sorted(rows, key=lambda row: (row.worst_own, row.position))
        outputs = [each.metrics() for each in self.outputs.values()]
        first = first_disagreement(rows, outputs, bound)
        return LayerComparison(tuple(ranked), bound, first, tuple(self.nonfinite.values()))

    def _bound(self) -> float:
        dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in self.quantized.entered.values()}
        return min(BOUNDS_DB.get(dtype, BOUNDS_DB["float32"]) for dtype in dtypes)

    def _row(self, call: Call, position: int) -> LayerMetrics:
        sums = self.sums[call]
        backends = {TORCH: sums.of_backend(TORCH)}
        point = next((point for point in self.points if point.call == call), None)
        if point is not None:
            backends[ONNX] = sums.of_backend(ONNX, differing(point.site, self.layers[call.layer]))
            backends |= {name: sums.of_backend(name) for name in self.whole}
        return LayerMetrics(call.key, position, backends)
