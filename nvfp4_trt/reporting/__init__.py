"""The report: one page that shows a model, its engine and its errors, and the data behind it."""

from nvfp4_trt.reporting.collect import Measured, collect
from nvfp4_trt.reporting.data import Report
from nvfp4_trt.reporting.render import check_packages, render
from nvfp4_trt.reporting.stored import read_report

__all__ = ["Measured", "Report", "check_packages", "collect", "read_report", "render"]
