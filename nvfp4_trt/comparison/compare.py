"""An exported file against the float model it came from, or against outputs saved from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygraphy.comparator import Comparator

from nvfp4_trt.atomic import check_writable
from nvfp4_trt.causes import first_line
from nvfp4_trt.comparison.fit import check_feeds, check_outputs
from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.comparison.result import Comparison
from nvfp4_trt.comparison.saved import read_feeds, read_outputs, write_feeds, write_outputs
from nvfp4_trt.errors import InputsMismatchError, Nvfp4Error, OnnxRunError
from nvfp4_trt.portable import load
from nvfp4_trt.runners import TorchRunner, as_feed, onnx_runner, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polygraphy.backend.base import BaseRunner
    from polygraphy.comparator import IterationResult
    from torch import nn

    from nvfp4_trt.comparison.metrics import Array
    from nvfp4_trt.loading import Batch
    from nvfp4_trt.runners.arrays import Feed

    Outputs = Mapping[str, Array]


def compare_onnx(
    onnx_path: Path,
    module: nn.Module,
    batches: Sequence[Batch],
    *,
    reference_name: str,
    save_inputs: Path | None = None,
    save_outputs: Path | None = None,
) -> Comparison:
    """Compare an exported file, on ONNX Runtime's CPU provider, with a module run as it is.

    Args:
        onnx_path: what `exporting.export_module` wrote.
        module: the float module, in eval mode.
        batches: inputs, all with the same names; shapes may differ where the file's are dynamic.
        reference_name: what the module is called in the result and in saved outputs.
        save_inputs: where to keep the file's inputs for `polygraphy run --load-inputs`.
        save_outputs: where to keep the module's outputs for `polygraphy run --load-outputs`.

    Raises:
        FileMissingError, NotAModelError, NotOurOnnxError: see `portable.load`.
        InputsMissingError, InputsMismatchError: the batches, or the module's outputs, do not fit the file.
        ModelRunError: the module raised.
        OnnxRunError: ONNX Runtime refused the file, or failed in it.
        OutputUnwritableError, DiskFullError: see `nvfp4_trt.atomic`.
    """
    for path in (save_inputs, save_outputs):
        if path is not None:
            check_writable(path)
    model, metadata = load(onnx_path)
    taken = [str(value.name) for value in model.graph.inputs]
    feeds = [as_feed(batch) for batch in batches]
    check_feeds(feeds, model, metadata.example_shapes, str(onnx_path))
    ours = onnx_runner(onnx_path, model)
    reference, outputs = run_all([TorchRunner(module, batches[0], name=reference_name), ours], feeds, onnx_path)
    if save_inputs is not None:
        write_feeds([{name: feed[name] for name in taken} for feed in feeds], save_inputs)
    if save_outputs is not None:
        write_outputs(reference_name, reference, save_outputs)
    return compared(reference, outputs, reference_name, str(onnx_path))


def compare_saved(onnx_path: Path, outputs_json: Path, inputs_json: Path) -> Comparison:
    """Compare an exported file, on ONNX Runtime's CPU provider, with outputs saved before.

    Args:
        onnx_path: what `exporting.export_module` wrote.
        outputs_json: Polygraphy's results of one runner, as `compare_onnx` saves them.
        inputs_json: the inputs that gave them.

    Raises:
        FileMissingError: one of the three does not exist.
        WrongKindError: a JSON file is not of its kind.
        NotAModelError, NotOurOnnxError: see `portable.load`.
        InputsMismatchError: inputs, outputs and file do not fit each other.
        OnnxRunError: ONNX Runtime refused the file, or failed in it.
    """
    name, reference = read_outputs(outputs_json)
    feeds = read_feeds(inputs_json)
    if len(feeds) != len(reference):
        raise InputsMismatchError(
            f"{inputs_json} holds {len(feeds)} batches, and {outputs_json} the outputs of {len(reference)}",
            "save both in one run",
        )
    model, metadata = load(onnx_path)
    check_feeds(feeds, model, metadata.example_shapes, str(onnx_path))
    (outputs,) = run_all([onnx_runner(onnx_path, model)], feeds, onnx_path)
    return compared(reference, outputs, name, str(onnx_path))


def run_all(runners: list[BaseRunner], feeds: list[Feed], file: Path) -> list[list[IterationResult]]:
    """Return the outputs of each runner on each of the inputs.

    Raises:
        OnnxRunError: ONNX Runtime failed in `file`.
        Nvfp4Error: a runner's own.
    """
    with quiet():
        try:
            results = Comparator.run(runners, data_loader=feeds)
        except Nvfp4Error:
            raise
        except Exception as error:
            raise OnnxRunError(
                f"ONNX Runtime failed in {file}: {first_line(error)}",
                "check the shapes and ranges of the inputs; give smaller batches where memory ran out",
            ) from error
    return [list(outputs) for outputs in results.values()]


def compared(
    reference: Sequence[Mapping[str, Array]],
    outputs: Sequence[Mapping[str, Array]],
    reference_name: str,
    file: str,
) -> Comparison:
    """Return how far one run's outputs are from another's.

    Args:
        reference: the outputs of each batch, by name.
        outputs: those of the other run.
        reference_name: what the first is called in the result.
        file: what made the other.

    Raises:
        InputsMismatchError: names or shapes differ.
    """
    sums = {name: Accumulator(name) for name in reference[0]}
    for theirs, ours in zip(reference, outputs, strict=True):
        expected, got = dict(theirs.items()), dict(ours.items())
        check_outputs(expected, got, file)
        for name, array in expected.items():
            sums[name].add(array, got[name])
    metrics = tuple(accumulator.metrics() for accumulator in sums.values())
    pairs = {name: (str(array.dtype), str(outputs[0][name].dtype)) for name, array in reference[0].items()}
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return Comparison(metrics, len(reference), reference_name, file, differing)
