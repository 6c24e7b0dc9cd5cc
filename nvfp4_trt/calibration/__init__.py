"""Calibration: static activation scales from example inputs."""

from nvfp4_trt.calibration.observe import input_amaxes

__all__ = ["input_amaxes"]
