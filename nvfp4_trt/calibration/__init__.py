"""Calibration: static activation scales from example inputs."""

from nvfp4_trt.calibration.calibrate import calibrate_model, input_amaxes
from nvfp4_trt.calibration.given import calibrator_for, given_calibration, looked_at, recipe_for
from nvfp4_trt.calibration.ranks import join
from nvfp4_trt.calibration.result import Calibration, LayerCalibration
from nvfp4_trt.calibration.running import run_batches

__all__ = [
    "Calibration",
    "LayerCalibration",
    "calibrate_model",
    "calibrator_for",
    "given_calibration",
    "input_amaxes",
    "join",
    "looked_at",
    "recipe_for",
    "run_batches",
]
