"""Running engines on a GPU, and timing them. Not yet run on a Blackwell GPU by this project."""

from nvfp4_trt.benching.baseline import Against, Candidate, build_baseline, with_baseline
from nvfp4_trt.benching.bench import bench_engines
from nvfp4_trt.benching.opened import ready_to_run, runnable
from nvfp4_trt.benching.proof import NEED_A_GPU, Proof, ProofStage
from nvfp4_trt.benching.run import EngineRun, run_engine
from nvfp4_trt.timing import SCHEMA, Bench, BenchRow, load_bench

__all__ = [
    "NEED_A_GPU",
    "SCHEMA",
    "Against",
    "Bench",
    "BenchRow",
    "Candidate",
    "EngineRun",
    "Proof",
    "ProofStage",
    "bench_engines",
    "build_baseline",
    "load_bench",
    "ready_to_run",
    "run_engine",
    "runnable",
    "with_baseline",
]
