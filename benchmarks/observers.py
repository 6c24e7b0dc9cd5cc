"""What each observer of static scales costs in signal: the sentence encoder, held-out sentences.

    python -m benchmarks.observers
    python -m benchmarks.observers --sentences 1    # calibrated on too little

Scales are calibrated on the sample's CALIBRATION sentences and measured on its TEST sentences: SQNR of the last
hidden state against the float model, padding left out. Two columns: activations alone quantized, and weights too.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch import Tensor, nn

from nvfp4_trt import quantize
from nvfp4_trt.loading import load_model
from nvfp4_trt.printing import table
from nvfp4_trt.quantization import ActivationQuantizer, QuantLinear
from nvfp4_trt.recipe import Activations, ObserverName, Recipe
from samples.minilm import inputs
from samples.minilm.sentences import CALIBRATION

if TYPE_CHECKING:
    from collections.abc import Iterator

DYNAMIC = ("dynamic-token", "dynamic", "single-level")


def outputs(module: nn.Module) -> Tensor:
    """Return the last hidden states of all tokens of the test sentences, `[tokens, K]`."""
    found = []
    for batch in inputs.test():
        with torch.no_grad():
            hidden = module(**batch).last_hidden_state
        found.append(hidden[batch["attention_mask"].bool()])
    return torch.cat(found)


def activations_alone(quantized: nn.Module, plain: nn.Module) -> Tensor:
    """Return the outputs of the float module with the activation quantizers of the quantized one."""
    handles = []
    for name, layer in quantized.named_modules():
        if isinstance(layer, QuantLinear):
            quantizer: ActivationQuantizer = layer.input_quantizer

            def hook(_module: nn.Module, args: tuple[Tensor], to: ActivationQuantizer = quantizer) -> Tensor:
                return to(args[0])

            handles.append(plain.get_submodule(name).register_forward_pre_hook(hook))
    try:
        return outputs(plain)
    finally:
        for handle in handles:
            handle.remove()


def sqnr_db(expected: Tensor, got: Tensor) -> float:
    """Return 10 log10(sum of expected^2 / sum of (expected - got)^2)."""
    signal, noise = expected.double().square().sum(), (expected - got).double().square().sum()
    return float(10 * torch.log10(signal / noise))


def calibration(sentences: int) -> Iterator[dict[str, Tensor]]:
    """Yield the sample's calibration batches, up to that many sentences."""
    for batch in inputs.calibration():
        if sentences > 0:
            yield {name: tensor[:sentences] for name, tensor in batch.items()}
        sentences -= len(batch["input_ids"])


def measure(
    scaling: str, observer: ObserverName | None, sentences: int, plain: nn.Module, expected: Tensor
) -> dict[str, object]:
    activations = Activations.model_validate({"scaling": scaling, "observer": observer})
    quantized = quantize(plain, Recipe(activations=activations), inputs=calibration(sentences)).module
    return {
        "activations": scaling if observer is None else f"static, {observer}",
        "activations_db": sqnr_db(expected, activations_alone(quantized, plain)),
        "w4a4_db": sqnr_db(expected, outputs(quantized)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sentences", type=int, default=len(CALIBRATION), help="how many to calibrate on")
    options = parser.parse_args()
    plain = load_model(inputs.model_folder()).module
    expected = outputs(plain)
    rows = [measure(scaling, None, options.sentences, plain, expected) for scaling in DYNAMIC]
    rows += [measure("static", observer, options.sentences, plain, expected) for observer in ObserverName]
    if options.json:
        print(json.dumps(rows))
        return
    columns = ("activations", "#alone, dB", "#with weights, dB", "#against per token, dB")
    cells = [
        (
            row["activations"],
            f"{row['activations_db']:.2f}",
            f"{row['w4a4_db']:.2f}",
            f"{row['w4a4_db'] - rows[0]['w4a4_db']:+.2f}",
        )
        for row in rows
    ]
    Console().print(table("Static scales of all-MiniLM-L6-v2 on held-out sentences", columns, cells))


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # libraries' remarks about themselves
    main()
