"""What the commands print: objects for programs, tables for people."""

from nvfp4_trt.printing.calibration import calibration_object, calibration_summary
from nvfp4_trt.printing.comparison import comparison_summary
from nvfp4_trt.printing.inspection import Inspection, inspect_file
from nvfp4_trt.printing.objects import engine_object, export_object
from nvfp4_trt.printing.pack import pack_object, pack_summary
from nvfp4_trt.printing.sensitivity import sensitivity_summary
from nvfp4_trt.printing.serving import serving_object, serving_summary
from nvfp4_trt.printing.tables import engine_summary, export_summary, recipes_table, table

__all__ = [
    "Inspection",
    "calibration_object",
    "calibration_summary",
    "comparison_summary",
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
