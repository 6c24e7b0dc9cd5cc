"""The child process: `python -m nvfp4_trt.serving.worker SPEC RESULT`. One engine, several profiles."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from nvfp4_trt.building.backends import BACKENDS, allow_decomposed_attention, network_flags, set_targets
from nvfp4_trt.building.network import make_logger
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.errors import BuildFailedError, Nvfp4Error, ParseFailedError
from nvfp4_trt.serving.process import ProfilesSpec


def build_profiles(spec: ProfilesSpec, trt: Any) -> float:
    """Parse the model, build the engine, write both the engine and its layer record.

    Args:
        spec: what to build.
        trt: the module `tensorrt` or `tensorrt_rtx`.

    Returns:
        Wall time in seconds.

    Raises:
        ParseFailedError, BuildFailedError: TensorRT's own words are in the message.
    """
    started = time.perf_counter()
    build = spec.build
    with build.log.open("w", encoding="utf-8") as log:
        logger = make_logger(trt, log)
        builder = trt.Builder(logger)
        network = builder.create_network(network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(build.model)):
            told = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise ParseFailedError(f"TensorRT's parser refused the lowered model: {told}", "the log: --log FILE")
        allow_decomposed_attention(trt, network)
        engine = builder.build_serialized_network(network, _configure(spec, trt, builder))
        if engine is None:
            raise BuildFailedError(f"TensorRT built no engine: {logger.last_error}", "the whole log: --log FILE")
        with build.engine.open("wb") as file:
            file.write(engine)
        inspects = BACKENDS[build.backend].inspects
        record = _inspect(trt, logger, build.engine) if inspects else logger.record
        build.record.write_text(record, encoding="utf-8")
    return time.perf_counter() - started


def _configure(spec: ProfilesSpec, trt: Any, builder: Any) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if BACKENDS[spec.build.backend].cross_compiles:
        set_targets(trt, config, spec.build.targets)
    for shapes in spec.profiles:
        profile = builder.create_optimization_profile()
        for name, (least, best, most) in shapes.items():
            profile.set_shape(name, least, best, most)
        config.add_optimization_profile(profile)
    return config


def _inspect(trt: Any, logger: Any, engine: Path) -> str:
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise BuildFailedError("the engine that was built cannot be loaded again", "see the log: --log FILE")
    inspector = loaded.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def main(spec_file: str, result_file: str) -> None:
    """Build what the spec says and write down how it went."""
    spec = ProfilesSpec.model_validate_json(Path(spec_file).read_text(encoding="utf-8"))
    try:
        trt = BACKENDS[spec.build.backend].load()
        result = BuildResult(seconds=build_profiles(spec, trt), version=str(trt.__version__))
    except Nvfp4Error as error:
        result = BuildResult(error=error.code, message=error.message, hint=error.hint)
    Path(result_file).write_text(result.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
