"""What an engine will be, before it is built: kernels, bytes, memory, a modelled time on a named GPU."""

from nvfp4_trt.planning.any_file import plan_onnx
from nvfp4_trt.planning.plan import plan_file
from nvfp4_trt.planning.result import GpuPlan, Plan, PlanRow, PrecisionPlan

__all__ = ["GpuPlan", "Plan", "PlanRow", "PrecisionPlan", "plan_file", "plan_onnx"]
