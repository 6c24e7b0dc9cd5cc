"""Parsing and building with a TensorRT module, whichever it is."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from nvfp4_trt.building.backends import BACKENDS, allow_decomposed_attention, network_flags, set_targets
from nvfp4_trt.building.plugins import load_plugin
from nvfp4_trt.errors import BuildFailedError, ParseFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from nvfp4_trt.building.spec import BuildSpec

_RECORD_START = "Layers:"


def build_network(spec: BuildSpec, trt: Any) -> float:
    """Parse the model, build the engine, write both the engine and the layer record.

    Args:
        spec: what to build.
        trt: the module `tensorrt` or `tensorrt_rtx`.

    Returns:
        Wall time in seconds.

    Raises:
        ParseFailedError, BuildFailedError: TensorRT's own words are in the message.
    """
    started = time.perf_counter()
    with spec.log.open("w", encoding="utf-8") as log:
        logger = make_logger(trt, log)
        builder = trt.Builder(logger)
        network = builder.create_network(network_flags(trt))
        kept = load_plugin(trt, spec.plugin)
        _parse(trt, network, logger, spec.model)
        allow_decomposed_attention(trt, network)
        config = _configure(spec, trt, builder)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise BuildFailedError(f"TensorRT built no engine: {logger.last_error}", "the whole log: --log FILE")
        with spec.engine.open("wb") as file:
            file.write(engine)
        if BACKENDS[spec.backend].inspects:
            spec.record.write_text(_inspect(trt, logger, spec.engine), encoding="utf-8")
        else:
            spec.record.write_text(logger.record, encoding="utf-8")
        del kept  # TensorRT makes plugins until here
    return time.perf_counter() - started


def make_logger(trt: Any, log: Any) -> Any:
    """Return a logger of the module's kind that writes each line at once and keeps the layer record.

    A process has one: TensorRT gives the layer dump to the first logger that it met.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.record = ""
            self.last_error = "no reason given"

        def log(self, severity: Any, message: str) -> None:
            if message.startswith(_RECORD_START):
                self.record = message
            kind = str(severity).rsplit(".", maxsplit=1)[-1]
            if kind in {"ERROR", "INTERNAL_ERROR"}:
                self.last_error = message
            log.write(f"{kind}: {message}\n")
            log.flush()

    return Logger()


def _parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        told = _words(parser.get_error(0)) if parser.num_errors else "no reason given"
        raise ParseFailedError(f"TensorRT's parser refused the lowered model: {told}", "the whole log: --log FILE")


def _words(problem: Any) -> str:
    """Name the node: a description alone may be as short as the condition that did not hold."""
    kind = str(problem.code()).rsplit(".", maxsplit=1)[-1]
    described = re.sub(r"\s+", " ", problem.desc()).strip()
    return f"{problem.node_operator()} {problem.node_name()!r}: {kind}: {described}"


def _configure(spec: BuildSpec, trt: Any, builder: Any) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if BACKENDS[spec.backend].cross_compiles:
        set_targets(trt, config, spec.targets)
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
