"""The report: one page that shows a model, its engine and its errors, and the data behind it."""

from nvfp4_trt.reporting.collect import collect
from nvfp4_trt.reporting.data import Report
from nvfp4_trt.reporting.measured import Measured
from nvfp4_trt.reporting.render import check_packages, render, render_pair
from nvfp4_trt.reporting.stored import read_report
from nvfp4_trt.reporting.write import Reported, check_request, write_report

__all__ = [
    "Measured",
    "Report",
    "Reported",
    "check_packages",
    "check_request",
    "collect",
    "read_report",
    "render",
    "render_pair",
    "write_report",
]
