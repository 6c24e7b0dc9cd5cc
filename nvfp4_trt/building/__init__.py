"""Building engines: lowering, the child process that runs TensorRT, the audit."""

from nvfp4_trt.building.backends import BACKENDS, Backend, BackendName, choose_backend
from nvfp4_trt.building.build import EngineArtifact, EngineRecord, build_engine, lower_file
from nvfp4_trt.building.candidate import Candidate
from nvfp4_trt.building.records import read_record, record_of, shapes_of
from nvfp4_trt.building.variants import OPTIMIZE, Optimize

__all__ = [
    "BACKENDS",
    "OPTIMIZE",
    "Backend",
    "BackendName",
    "Candidate",
    "EngineArtifact",
    "EngineRecord",
    "Optimize",
    "build_engine",
    "choose_backend",
    "lower_file",
    "read_record",
    "record_of",
    "shapes_of",
]
