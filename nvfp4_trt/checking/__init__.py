"""What each layer of a model will be, before anything is built: facts, the rules as data, verdicts."""

from nvfp4_trt.checking.checked import Checked, check, is_onnx
from nvfp4_trt.checking.rules import REFUSED, RULES, Rule, Severity, Verdict

__all__ = ["REFUSED", "RULES", "Checked", "Rule", "Severity", "Verdict", "check", "is_onnx"]
