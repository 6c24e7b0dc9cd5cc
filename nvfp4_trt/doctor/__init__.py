"""What a machine has, and what it can build and run: `nvfp4-trt doctor`."""

from nvfp4_trt.building.gpus import Gpu
from nvfp4_trt.doctor.diagnosis import Diagnosis, Target, diagnose
from nvfp4_trt.doctor.software import Software

__all__ = ["Diagnosis", "Gpu", "Software", "Target", "diagnose"]
