"""Building engines: lowering, the child process that runs TensorRT, the audit."""

from nvfp4_trt.building.backends import BACKENDS, Backend, BackendName, choose_backend
from nvfp4_trt.building.build import EngineArtifact, EngineRecord, Optimize, build_engine, lower_file
from nvfp4_trt.building.search import Candidate

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendName",
    "Candidate",
    "EngineArtifact",
    "EngineRecord",
    "Optimize",
    "build_engine",
    "choose_backend",
    "lower_file",
]
