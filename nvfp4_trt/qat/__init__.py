"""Quantization-aware training: preparing a float model, and converting what was trained."""

from nvfp4_trt.qat.prepare import QatState, qat_state, refuse_prepared
from nvfp4_trt.qat.training import convert_qat, prepare_qat

__all__ = ["QatState", "convert_qat", "prepare_qat", "qat_state", "refuse_prepared"]
