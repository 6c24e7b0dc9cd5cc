"""Pack every tensor of a safetensors file with torchao's eager two-level NVFP4, and write what comes out.

One tensor is read at a time; the packed ones are kept and written at the end, as the library's `save_file` wants.
Prints one JSON line with the seconds of reading and packing alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def pack(source: Path, output: Path) -> float:
    """Pack `source` into `output` and return the seconds until all is packed."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor, per_tensor_amax_to_scale

    packed = {}
    began = time.perf_counter()
    with safe_open(source, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            weight = file.get_tensor(name)
            scale = per_tensor_amax_to_scale(torch.amax(torch.abs(weight)))
            made = NVFP4Tensor.to_nvfp4(weight, per_tensor_scale=scale)
            packed[f"{name}_packed"] = made.qdata.view(torch.uint8)
            packed[f"{name}_block_scale"] = made.scale
            packed[f"{name}_per_tensor_scale"] = made.per_tensor_scale
    seconds = time.perf_counter() - began
    save_file(packed, output)
    return seconds


def main() -> None:
    """Read the command line, pack, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    print(json.dumps({"pack_s": pack(options.source, options.output)}))


if __name__ == "__main__":
    main()
