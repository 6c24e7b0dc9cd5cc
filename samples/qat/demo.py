"""A network fine-tuned as its engine will compute it: what FP4 costs, what training brings back, and the engine.

Run it with `python -m samples.qat.demo` in an environment that has the package, its extra `rtx` and scikit-learn.
No GPU is needed.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
import torch
from rich.console import Console
from rich.table import Table

import nvfp4_trt
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES
from samples.qat import task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from nvfp4_trt import QuantizedModel
    from samples.qat.task import Score

TARGET = "sm_120"
STEPS, FURTHER_STEPS = 8_000, 4_000
HALF = 0.5


@dataclass(frozen=True)
class Scores:
    """The held-out scores of each stage."""

    start: Score
    """The float network, before any further step."""
    start_quantized: Score
    control: Score
    """The float network, trained for as many further steps as QAT, on the same batches."""
    control_quantized: Score
    trained: Score
    """QAT, converted."""

    def recovered(self) -> tuple[float, float]:
        """Return the share of what FP4 costs the control, in loss and in accuracy, that QAT does not lose."""
        before, after, trained = self.control, self.control_quantized, self.trained
        return (
            (after.loss - trained.loss) / (after.loss - before.loss),
            (trained.accuracy - after.accuracy) / (before.accuracy - after.accuracy),
        )


def run_stages(recipe: str, steps: int, further: int, seed: int = 0) -> tuple[Scores, QuantizedModel]:
    """Train, quantize, train further with and without quantization, and score each model.

    Args:
        recipe: a built-in name.
        steps: of the float network.
        further: of the control and of QAT, each.
        seed: of weights and batches.
    """
    training, held_out = task.images()
    calibration = [{"input": task.noisy(training.pixels[:512], torch.Generator().manual_seed(5))}]

    def quantized(model: nn.Module) -> Score:
        return task.score(nvfp4_trt.quantize(model, recipe, inputs=calibration).module, held_out)

    start = task.network(seed)
    task.train(start, training, steps, seed)

    control = copy.deepcopy(start)
    task.train(control, training, further, seed + 100)

    prepared = nvfp4_trt.prepare_qat(copy.deepcopy(start), recipe, inputs=calibration)
    task.train(prepared, training, further, seed + 100)
    converted = nvfp4_trt.convert_qat(prepared)
    shown, packed = task.score(prepared, held_out), task.score(converted.module, held_out)
    if shown != packed:
        raise RuntimeError(f"training showed {shown}, and the converted model has {packed}")

    scores = Scores(
        task.score(start, held_out), quantized(start), task.score(control, held_out), quantized(control), packed
    )
    return scores, converted


def summary(scores: Scores) -> Table:
    """Return the table of scores."""
    table = Table(title="Held-out images", title_justify="left", box=None)
    table.add_column("model")
    for column in ("loss", "accuracy"):
        table.add_column(column, justify="right")
    for name, each in (
        ("float", scores.start),
        ("float, quantized", scores.start_quantized),
        ("control: float, trained further", scores.control),
        ("control, quantized", scores.control_quantized),
        ("QAT, converted", scores.trained),
    ):
        table.add_row(name, f"{each.loss:.4f}", f"{each.accuracy:.2%}")
    return table


def build(converted: QuantizedModel, folder: Path) -> tuple[Path, str]:
    """Export the converted model and build its engine, which is audited; return the ONNX file and what was found.

    Raises:
        Fp4LostError: a GEMM of the engine is not FP4.
        Nvfp4Error: any other step failed.
    """
    onnx = folder / "digits.onnx"
    example = {"input": torch.zeros(2, task.PIXELS)}
    nvfp4_trt.export(converted, onnx, inputs=[example], dynamic=("batch",))
    engine = nvfp4_trt.build(onnx, folder / "digits.engine", targets=(TARGET,), dims=("batch=1:64:256",))
    for kind, what in ((NVFP4, "GEMMs are FP4"), (WEIGHT_ONLY, "weights are FP4")):
        asked, found = engine.audit.counts(kind)
        if asked:
            return onnx, f"{engine.path}: {found} of {asked} {what}"
    raise RuntimeError("the recipe asked for no FP4")


def score_onnx(onnx: Path) -> Score:
    """Score an exported file on ONNX Runtime."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])

    def run(shown: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"input": shown.numpy()})[0])

    return task.score(run, task.images()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print, export and build; return 1 where less than half of the loss is recovered."""
    parser = argparse.ArgumentParser(prog="python -m samples.qat.demo", description=__doc__)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, choices=list(RECIPES))
    parser.add_argument("--steps", type=int, default=STEPS, help="of the float network")
    parser.add_argument("--further-steps", type=int, default=FURTHER_STEPS, help="of the control and of QAT, each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("out/qat"), help="folder for the files")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small are done before a second thread wakes
    try:
        console.print(
            f"training {options.steps} steps, then twice {options.further_steps} with {options.recipe} …"
        )
        scores, converted = run_stages(options.recipe, options.steps, options.further_steps, options.seed)
        loss, accuracy = scores.recovered()
        console.print(summary(scores), "")
        console.print(
            f"recovered by QAT, against the control: {loss:.0%} of the loss, {accuracy:.0%} of the accuracy"
        )
        onnx, audited = build(converted, options.output)
        on_ort = score_onnx(onnx)
        console.print(
            f"{onnx} on ONNX Runtime: loss {on_ort.loss:.4f}, accuracy {on_ort.accuracy:.2%}", soft_wrap=True
        )
        console.print(audited, soft_wrap=True)
    except Nvfp4Error as error:
        console.print(f"error[{error.code}]: {error.message}\nhint: {error.hint}", markup=False, soft_wrap=True)
        return error.exit_status
    finally:
        torch.set_num_threads(threads)
    return int(loss < HALF)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    sys.exit(main())
