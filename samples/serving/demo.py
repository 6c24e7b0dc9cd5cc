"""The sentence encoder as a serving set: engines for a few shapes, and requests of any shape through a dispatcher.

Run it with `python -m samples.serving.demo` in an environment that has the package and its extras `rtx` and `hf`.
No GPU is needed: the engines are built for sm_120, and ONNX Runtime serves the same set where they cannot run.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import nvfp4_trt
from nvfp4_trt.errors import Nvfp4Error, ShapeNotServedError
from nvfp4_trt.printing import serving_summary
from samples.minilm import inputs
from samples.minilm.sentences import TEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Feed = dict[str, NDArray[np.int64]]

BUCKETS = "1x128,8x32,8x128"
RANGES = ("batch=1:8:16", "sequence=1:128:256")
OUTPUT = "last_hidden_state"
CLOSE = 1e-5
"""Largest difference of an embedding's element that rounding alone explains."""


@dataclass(frozen=True)
class Served:
    """One request, and what became of it."""

    shape: tuple[int, ...]
    """Batch and sequence."""
    buckets: tuple[str, ...]
    """What took it, in order."""
    padding: float
    """Share of the elements run that was padding."""
    difference: float
    """Largest difference of an embedding's element from the same request without padding."""


def requests() -> list[Feed]:
    """Return requests: single sentences, batches of them, more than any bucket has rows, and a long text."""
    by_length = sorted(TEST, key=len)
    groups = [[by_length[i]] for i in (0, len(by_length) // 2, -1)]
    groups += [by_length[:3], by_length[-6:], by_length[:11], [" ".join(by_length[-3:])]]
    return [encode(group) for group in groups]


def encode(sentences: Sequence[str]) -> Feed:
    """Return `{input_ids, attention_mask}`, int64 `[batch, sequence]`, padded to the longest sentence only."""
    tokenizer = Tokenizer.from_file(str(inputs.model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 (a token of text)
    rows = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": np.array([row.ids for row in rows], np.int64),
        "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
    }


def embed(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean of the hidden states under the mask, normalized; `[batch, 384]`."""
    shown = mask[..., None].astype(hidden.dtype)
    mean = (hidden * shown).sum(axis=1) / shown.sum(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=-1, keepdims=True))


def build_set(folder: Path, *, share_weights: bool) -> nvfp4_trt.ServingSet:
    """Export the encoder and build its serving set.

    Args:
        folder: where both go.
        share_weights: build one engine with a profile for each bucket.

    Raises:
        Nvfp4Error: a step failed.
    """
    onnx = folder / "encoder.onnx"
    nvfp4_trt.export(inputs.model_folder(), onnx, inputs=inputs.calibration(), dynamic=("batch,sequence",))
    return nvfp4_trt.build_buckets(
        onnx,
        folder / "set",
        buckets=BUCKETS,
        dims=RANGES,
        targets=("sm_120",),
        pads=("input_ids=0", "attention_mask=0"),
        share_weights=share_weights,
    )


def serve(dispatcher: nvfp4_trt.Dispatcher, model: Path) -> list[Served]:
    """Serve every request, and compare each with the model at the request's own shape.

    Args:
        dispatcher: over the set.
        model: the portable file, which ONNX Runtime runs without padding.
    """
    alone = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    served = []
    for feed in requests():
        mask = feed["attention_mask"]
        runs = dispatcher.plan(feed)
        got = embed(dispatcher(feed)[OUTPUT], mask)
        expected = embed(alone.run([OUTPUT], feed)[0], mask)
        ran = sum(run.extents["batch"] * run.extents["sequence"] for run in runs)
        served.append(
            Served(
                shape=mask.shape,
                buckets=tuple(run.bucket for run in runs),
                padding=1 - mask.size / ran,
                difference=float(np.abs(got - expected).max()),
            )
        )
    return served


def summary(served: Sequence[Served], backend: str) -> Table:
    """Return the table of requests."""
    table = Table(title=f"Requests on {backend}", title_justify="left", box=None)
    for column, side in (
        ("request", "left"),
        ("taken by", "left"),
        ("padding", "right"),
        ("largest difference of an embedding from the unpadded one", "right"),
    ):
        table.add_column(column, justify="right" if side == "right" else "left")
    for each in served:
        shape = "x".join(map(str, each.shape))
        table.add_row(shape, ", ".join(each.buckets), f"{each.padding:.0%}", f"{each.difference:.1e}")
    return table


def refusal(dispatcher: nvfp4_trt.Dispatcher) -> str:
    """Return what the dispatcher says of a request that no engine takes: all test sentences as one."""
    try:
        dispatcher.plan(encode([" ".join(TEST)]))
    except ShapeNotServedError as error:
        return error.message
    raise RuntimeError("a request longer than the dynamic engine's range was not refused")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, serve, print; return 1 where padding changed an embedding."""
    parser = argparse.ArgumentParser(prog="python -m samples.serving.demo", description=__doc__)
    parser.add_argument("--share-weights", action="store_true", help="one engine with a profile for each bucket")
    parser.add_argument("--backend", default="auto", help="auto, onnxruntime, tensorrt_rtx or tensorrt")
    parser.add_argument("--output", type=Path, default=Path("out/serving"), help="folder for the files")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    try:
        console.print(f"exporting, then building {BUCKETS} and a dynamic engine …")
        made = build_set(options.output, share_weights=options.share_weights)
        console.print(*serving_summary(made.manifest, made.path), "", sep="\n")
        with nvfp4_trt.Dispatcher.load(made.path, options.backend) as dispatcher:
            served = serve(dispatcher, made.path / "model.onnx")
            console.print(summary(served, dispatcher.backend))
            console.print(f"\nrefused: {refusal(dispatcher)}", soft_wrap=True)
            exact = dispatcher.backend == "onnxruntime"
    except Nvfp4Error as error:
        console.print(f"error[{error.code}]: {error.message}\nhint: {error.hint}", markup=False, soft_wrap=True)
        return error.exit_status
    # An engine rounds in another order than ONNX Runtime does: its difference is shown, and not held to CLOSE.
    return int(exact and max(each.difference for each in served) > CLOSE)


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    sys.exit(main())
