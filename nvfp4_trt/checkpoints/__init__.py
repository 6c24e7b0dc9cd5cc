"""NVFP4 checkpoints of every format: read, checked, converted and written, codes and scales bit for bit."""

from nvfp4_trt.checkpoints.convert import Converted, convert_checkpoint
from nvfp4_trt.checkpoints.formats import read_checkpoint
from nvfp4_trt.checkpoints.modules import is_checkpoint, load_checkpoint
from nvfp4_trt.checkpoints.saving import Saved, save_checkpoint
from nvfp4_trt.checkpoints.weights import Activation, Checkpoint, Format, Scale, StoredWeight

__all__ = [
    "Activation",
    "Checkpoint",
    "Converted",
    "Format",
    "Saved",
    "Scale",
    "StoredWeight",
    "convert_checkpoint",
    "is_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]
