"""What the commands print: objects for programs, tables for people."""

from nvfp4_trt.report.calibration import calibration_object, calibration_summary
from nvfp4_trt.report.inspection import Inspection, inspect_file
from nvfp4_trt.report.objects import engine_object, export_object
from nvfp4_trt.report.pack import pack_object, pack_summary
from nvfp4_trt.report.sensitivity import sensitivity_summary
from nvfp4_trt.report.serving import serving_object, serving_summary
from nvfp4_trt.report.tables import comparison_table, engine_summary, export_summary, recipes_table, table

__all__ = [
    "Inspection",
    "calibration_object",
    "calibration_summary",
    "comparison_table",
    "engine_object",
    "engine_summary",
    "export_object",
    "export_summary",
    "inspect_file",
    "pack_object",
    "pack_summary",
    "recipes_table",
    "sensitivity_summary",
    "serving_object",
    "serving_summary",
    "table",
]
