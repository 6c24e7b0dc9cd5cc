"""Building engines: lowering, the child process that runs TensorRT, the audit."""

from nvfp4_trt.building.backends import BACKENDS, Backend, BackendName, choose_backend
from nvfp4_trt.building.build import EngineArtifact, EngineRecord, build_engine, lower_file

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendName",
    "EngineArtifact",
    "EngineRecord",
    "build_engine",
    "choose_backend",
    "lower_file",
]
