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
from types import SimpleNamespace
from typing import Any

import modelopt.torch.quantization as mtq
import onnx
import torch
from modelopt.onnx import trt_utils
from modelopt.onnx.autocast import graphsanitizer, precisionconverter
from modelopt.torch._deploy.utils import OnnxBytes, get_onnx_bytes_and_metadata
from modelopt.torch.quantization import tensor_quant
from transformers import AutoModel

SEED = 20240229
BLOCK = 16
QUANTIZER = "TRT_FP4DynamicQuantize"


def stand_in_for_the_gpu_kernel() -> None:
    """Let a forward pass through an NVFP4 quantizer succeed on a CPU.

    ModelOpt's kernel for dynamic block quantization asserts a CUDA tensor, and the tracer of the ONNX
    export calls it once for each quantizer. The trace records the quantizer's ONNX symbol and not its
    values, so a copy of the input is all that it needs: the cheapest stand-in there is, far cheaper than
    the kernel's arithmetic would be on a CPU. Packing the weights is ModelOpt's own code, untouched.
    """
    tensor_quant.dynamic_block_quantize_op = lambda inputs, *_: inputs.clone()


def stand_in_for_tensorrt() -> None:
    """Let ModelOpt's conversion to fp16 run where TensorRT is not installed.

    It asks TensorRT for the type and shape of every tensor, because ONNX knows nothing of what comes out of
    its quantizer. That is said here instead: codes of the input's shape, and one fp8 scale for each
    block along the last axis. Everything else, ModelOpt takes from ONNX's own shape inference.
    """
    names = ("float32", "float16", "bfloat16", "int4", "int8", "uint8", "int32", "int64", "bool", "fp8", "fp4")
    types = {name: name for name in names}
    trt_utils.trt = SimpleNamespace(DataType=str, **types)
    trt_utils.get_custom_layers = graphsanitizer.get_custom_layers = tensors_around_quantizers
    # Its last check wants a shape for every output, and ONNX's inference does not reach that far.
    precisionconverter.PrecisionConverter._sanity_check = lambda _: None  # noqa: SLF001


def tensors_around_quantizers(model: onnx.ModelProto, *_: Any) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the quantizers' names, and type and shape of what they give, by tensor name."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    quantizers = [node for node in known.graph.node if node.op_type == QUANTIZER]
    for node in quantizers:  # something of the same shape, so that inference goes on behind it
        node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name))
    known.graph.ClearField("value_info")  # types from before the weights were packed, which would stop it
    inferred = onnx.shape_inference.infer_shapes(known, data_prop=True).graph.value_info
    shapes = {value.name: list(value.type.tensor_type.shape.dim) for value in inferred}
    told: dict[str, dict[str, Any]] = {}
    for node in (node for node in model.graph.node if node.op_type == QUANTIZER):
        *rows, columns = (dim.dim_value or dim.dim_param or "unknown" for dim in shapes[node.input[0]])
        blocks = columns // BLOCK if isinstance(columns, int) else "blocks"
        told[node.output[0]] = {"dtype": "fp4", "shape": [*rows, columns]}
        told[node.output[1]] = {"dtype": "fp8", "shape": [*rows, blocks]}
    return [node.name for node in quantizers], told


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


def export(
    folder: Path, output: Path, dtype: str, *, fixed: tuple[int, int] | None = None, convert: bool = False
) -> dict[str, Any]:
    """Quantize, export and write; return the seconds of each step and the file's bytes.

    Args:
        folder: a Hugging Face folder with a BERT.
        output: the ONNX file.
        dtype: of the weights.
        fixed: batch and sequence of a file of fixed shapes; both are dynamic without it.
        convert: have ModelOpt convert the exported file to fp16.
    """
    began = time.perf_counter()
    model = Positional(AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype))).eval()
    inputs = example(*(fixed or (2, 128)))
    loaded = time.perf_counter()
    mtq.quantize(model, linear_only(), forward_loop=lambda calibrated: calibrated(**inputs))
    quantized = time.perf_counter()
    data, _ = get_onnx_bytes_and_metadata(
        model,
        tuple(inputs.values()),
        model_name=output.stem,
        dynamic_axes={} if fixed else {name: {0: "batch", 1: "sequence"} for name in inputs},
        weights_dtype="fp16" if convert else "fp32",  # fp32 is "as it is": no conversion after the export
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
    parser.add_argument("--fixed", type=int, nargs=2, metavar=("BATCH", "SEQUENCE"), help="no dynamic shapes")
    parser.add_argument("--convert", action="store_true", help="export in --dtype, then convert to fp16")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    stand_in_for_the_gpu_kernel()
    if options.convert:
        stand_in_for_tensorrt()
    fixed = tuple(options.fixed) if options.fixed else None
    with redirect_stdout(sys.stderr):
        result = export(options.folder, options.output, options.dtype, fixed=fixed, convert=options.convert)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
