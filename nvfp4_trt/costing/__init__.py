"""What an engine costs: kernels, bytes, operations by its layer record; a modelled time on a named GPU."""

from nvfp4_trt.costing.cost import EngineCost, RowCost, cost_engine
from nvfp4_trt.costing.gpus import GPU, GPUS, find_gpu, gpu_called, gpu_for
from nvfp4_trt.costing.memory import BuilderMemory, activation_bytes, builder_memory
from nvfp4_trt.costing.shapes import TensorShapes, shapes_at

__all__ = [
    "GPU",
    "GPUS",
    "BuilderMemory",
    "EngineCost",
    "RowCost",
    "TensorShapes",
    "activation_bytes",
    "builder_memory",
    "cost_engine",
    "find_gpu",
    "gpu_called",
    "gpu_for",
    "shapes_at",
]
