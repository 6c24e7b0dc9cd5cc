"""The child process: `python -m nvfp4_trt.building.worker SPEC RESULT`. TensorRT may take it down."""

from __future__ import annotations

import sys
from pathlib import Path

from nvfp4_trt.building.backends import BACKENDS
from nvfp4_trt.building.network import build_network
from nvfp4_trt.building.spec import BuildResult, BuildSpec
from nvfp4_trt.errors import Nvfp4Error


def main(spec_file: str, result_file: str) -> None:
    """Build what the spec says and write down how it went."""
    spec = BuildSpec.model_validate_json(Path(spec_file).read_text(encoding="utf-8"))
    try:
        trt = BACKENDS[spec.backend].load()
        result = BuildResult(seconds=build_network(spec, trt), version=str(trt.__version__))
    except Nvfp4Error as error:
        result = BuildResult(error=error.code, message=error.message, hint=error.hint)
    Path(result_file).write_text(result.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
