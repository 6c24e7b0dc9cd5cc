"""A GPT-2 decoder exported with a dynamic sequence, built, and held to its float self token by token.

Run it with `python -m samples.gpt.demo` in an environment that has the package and its extras `rtx` and `hf`. No
GPU is needed. The weights are random: the figures are those of the method, not of a trained model.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

import nvfp4_trt
from nvfp4_trt.comparison.metrics import Accumulator
from nvfp4_trt.errors import Nvfp4Error
from nvfp4_trt.layers import NVFP4, WEIGHT_ONLY
from nvfp4_trt.recipe import DEFAULT_RECIPE, RECIPES
from samples.gpt import model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TARGET = "sm_120"
DIMS = ("batch=1:4:8", f"sequence=1:64:{model.POSITIONS}")


@dataclass(frozen=True)
class Tokens:
    """The decoder against its float self, on the tokens of some texts."""

    count: int
    """Tokens that were predicted: all but the first of each text."""
    sqnr_db: float
    """Of the logits."""
    agreement: float
    """Share of tokens where both have the same most likely one."""
    divergence: float
    """Kullback-Leibler, float to quantized, nats a token."""
    float_perplexity: float
    perplexity: float


def compare(expected: Tensor, got: Tensor, ids: Tensor) -> Tokens:
    """Compare logits token by token.

    Args:
        expected: the float decoder's, fp32 `[texts, length, vocabulary]`.
        got: the exported file's, of the same shape.
        ids: the texts, int64 `[texts, length]`; each position predicts the next token.
    """
    metrics = Accumulator("logits")
    metrics.add(expected.numpy(), got.numpy())
    ours, theirs = (F.log_softmax(logits[:, :-1].double(), dim=-1).flatten(0, 1) for logits in (expected, got))
    following = ids[:, 1:].flatten()
    return Tokens(
        count=len(following),
        sqnr_db=metrics.metrics().sqnr_db,
        agreement=float((ours.argmax(dim=-1) == theirs.argmax(dim=-1)).double().mean()),
        divergence=float(F.kl_div(theirs, ours, reduction="batchmean", log_target=True)),
        float_perplexity=float(F.nll_loss(ours, following).exp()),
        perplexity=float(F.nll_loss(theirs, following).exp()),
    )


def run(recipe: str, layers: int, folder: Path) -> tuple[list[Tokens], str]:
    """Export, build and compare; return a row for each length, and what the audit found.

    Args:
        recipe: a built-in name.
        layers: of the decoder.
        folder: where the files go.

    Raises:
        Fp4LostError: a GEMM of the engine is not FP4.
        Nvfp4Error: any other step failed.
    """
    decoder = model.decoder(layers)
    batches = model.texts(decoder)
    onnx = folder / "gpt.onnx"
    nvfp4_trt.export(decoder, onnx, recipe=recipe, inputs=batches, dynamic=("batch,sequence",))
    engine = nvfp4_trt.build(onnx, folder / "gpt.engine", targets=(TARGET,), dims=DIMS)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    found = []
    for batch in batches:
        with torch.no_grad():
            expected = decoder(**batch).logits
        got = session.run(["logits"], {name: tensor.numpy() for name, tensor in batch.items()})[0]
        found.append(compare(expected, torch.from_numpy(got), batch["input_ids"]))
    counts = {kind: engine.audit.counts(kind) for kind in (NVFP4, WEIGHT_ONLY)}
    told = ", ".join(f"{fp4} of {asked} layers are {kind}" for kind, (asked, fp4) in counts.items() if asked)
    return found, f"{engine.path}: {told}"


def summary(found: Sequence[Tokens]) -> Table:
    """Return the table of lengths."""
    table = Table(title="Exported file on ONNX Runtime, against float", title_justify="left", box=None)
    for column in (
        "length",
        "tokens",
        "logits",
        "same token",
        "KL, nats",
        "perplexity, float",
        "quantized",
        "more",
    ):
        table.add_column(column, justify="right")
    for length, each in zip(model.LENGTHS, found, strict=True):
        table.add_row(
            str(length),
            str(each.count),
            f"{each.sqnr_db:.1f} dB",
            f"{each.agreement:.0%}",
            f"{each.divergence:.4f}",
            f"{each.float_perplexity:.2f}",
            f"{each.perplexity:.2f}",
            f"{each.perplexity / each.float_perplexity - 1:+.1%}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m samples.gpt.demo", description=__doc__)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE, choices=list(RECIPES))
    parser.add_argument("--layers", type=int, default=4, help="of the decoder, 4 by default")
    parser.add_argument("--output", type=Path, default=Path("out/gpt"), help="folder for the files")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"{options.layers} layers, random weights, {options.recipe}: export, build, audit, compare …")
    try:
        found, audited = run(options.recipe, options.layers, options.output)
    except Nvfp4Error as error:
        console.print(f"error[{error.code}]: {error.message}\nhint: {error.hint}", markup=False, soft_wrap=True)
        return error.exit_status
    console.print("", summary(found), "")
    console.print(audited, soft_wrap=True)
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    sys.exit(main())
