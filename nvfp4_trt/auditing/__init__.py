"""The audit of an engine by its own layer record."""

from nvfp4_trt.auditing.audit import FLOOR, Audit, LayerAudit, PluginGemms, audit_engine
from nvfp4_trt.auditing.record import Operand, Row, parse_record

__all__ = ["FLOOR", "Audit", "LayerAudit", "Operand", "PluginGemms", "Row", "audit_engine", "parse_record"]
