"""Checkpoints made by the peers' own packages, on the CPU: those of the sample."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # samples are not installed with the package

from samples.checkpoint.makers import (
    plain_pair,
    save_compressed_tensors,
    save_modelopt,
    save_torchao,
    torchao_module,
)

__all__ = ["plain_pair", "save_compressed_tensors", "save_modelopt", "save_torchao", "torchao_module"]
