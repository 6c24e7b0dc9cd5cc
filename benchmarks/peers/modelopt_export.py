"""Quantize a BERT folder with ModelOpt's default NVFP4 config and export it through ModelOpt's ONNX path.

Runs inside the peer's own virtual environment (`modelopt-requirements.txt`), knows nothing of this project,
and prints one JSON line. The path is the one of ModelOpt's own examples: `mtq.quantize`, then
`get_onnx_bytes_and_metadata`, then `OnnxBytes.write_to_disk`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch._deploy.utils import OnnxBytes, get_onnx_bytes_and_metadata
from modelopt.torch.quantization import tensor_quant
from transformers import AutoModel

SEED = 20240229


def stand_in_for_the_gpu_kernel() -> None:
    """Let a forward pass through an NVFP4 quantizer succeed on a CPU.

    ModelOpt's kernel for dynamic block quantization asserts a CUDA tensor, and the tracer of the ONNX
    export calls it once for each quantizer. The trace records the quantizer's ONNX symbol and not its
    values, so a copy of the input is all that it needs: the cheapest stand-in there is, far cheaper than
    the kernel's arithmetic would be on a CPU. Packing the weights is ModelOpt's own code, untouched.
    """
    tensor_quant.dynamic_block_quantize_op = lambda inputs, *_: inputs.clone()


class Positional(torch.nn.Module):
    """Call an encoder by position and return a plain tuple, as ModelOpt's exporter calls and wants it."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the last hidden state and the pooled output of int64 `[batch, sequence]` inputs."""
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return found.last_hidden_state, found.pooler_output


def linear_only() -> dict[str, Any]:
    """Return ModelOpt's default NVFP4 config with its LayerNorm and embedding quantizers switched off.

    Only linears hold FP4 weights, on this side as on the other; the rest would make ModelOpt slower.
    """
    config: dict[str, Any] = copy.deepcopy(dict(mtq.NVFP4_DEFAULT_CFG))
    off = [{"quantizer_name": pattern, "enable": False} for pattern in ("*LayerNorm*", "*embeddings*")]
    config["quant_cfg"] = [*config["quant_cfg"], *off]
    return config


def example(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """Return token ids and a mask of ones, int64 `[rows, columns]`."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(0, 30522, (rows, columns), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def export(folder: Path, output: Path, dtype: str) -> dict[str, Any]:
    """Quantize, export and write; return the seconds of each step and the file's bytes."""
    began = time.perf_counter()
    # A half model, not `weights_dtype="fp16"`: that exports fp32 first and then needs a TensorRT install.
    model = Positional(AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype))).eval()
    inputs = example(2, 128)
    loaded = time.perf_counter()
    mtq.quantize(model, linear_only(), forward_loop=lambda calibrated: calibrated(**inputs))
    quantized = time.perf_counter()
    data, _ = get_onnx_bytes_and_metadata(
        model,
        tuple(inputs.values()),
        model_name=output.stem,
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in inputs},
        weights_dtype="fp32",  # "as it is": no conversion after the export
    )
    OnnxBytes.from_bytes(data).write_to_disk(str(output.parent), clean_dir=False)
    done = time.perf_counter()
    return {
        "load_s": loaded - began,
        "quantize_s": quantized - loaded,
        "export_s": done - quantized,
        "bytes": sum(path.stat().st_size for path in output.parent.iterdir()),
        "torch": torch.__version__,
    }


def main() -> None:
    """Read the command line, export, and print one JSON line (ModelOpt's own prints go to stderr)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    stand_in_for_the_gpu_kernel()
    with redirect_stdout(sys.stderr):
        result = export(options.folder, options.output, options.dtype)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
