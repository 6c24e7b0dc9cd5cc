"""Running copies of a portable file on ONNX Runtime, their weights in one file that all of them share."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import onnx_ir as ir
import onnxruntime
from onnx_ir.passes.common import ShapeInferencePass
from polygraphy.backend.onnxrt import OnnxrtRunner

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import OnnxRunError
from nvfp4_trt.portable.writing import write_beside
from nvfp4_trt.runners import holds_bf16, quiet, widen

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from nvfp4_trt.runners.arrays import Feed
    from nvfp4_trt.tapping.copies import Copy

_MIN_EXTERNAL = 1024


class Copies:
    """Writes a file's weights once, for as long as the context lasts, and opens sessions on copies of its graph.

    Args:
        model: a portable model.
        named: its file's name, for errors.
    """

    def __init__(self, model: ir.Model, named: str) -> None:
        self._named = named
        self._folder = TemporaryDirectory()
        home = Path(self._folder.name)
        write_beside(model, home / "whole.onnx", home / "weights.data", at_least=_MIN_EXTERNAL)
        self.model = ir.load(home / "whole.onnx")
        """The same model, its weights mapped from the shared file, and its values' types known."""
        ShapeInferencePass()(self.model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def runner(self, copy: Copy, *, name: str, fold: bool = True) -> CopyRunner:
        """Open a session on a copy, in fp32 where it is bf16 (see `runners.widen`).

        Args:
            copy: of `self.model`.
            name: the runner's name in Polygraphy's results.
            fold: let ONNX Runtime dequantize the weights once, when it loads them, instead of in every run; they
                are in memory in the model's dtype then.

        Raises:
            OnnxRunError: ONNX Runtime refuses it.
        """
        if holds_bf16(copy.model):
            widen(copy.model)
        path = Path(self._folder.name) / f"{name}.onnx"
        ir.save(copy.model, path)
        disabled = [] if fold else ["ConstantFolding"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        with quiet():
            try:
                session = onnxruntime.InferenceSession(
                    path, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
                )
            except Exception as error:
                raise OnnxRunError(
                    f"ONNX Runtime refused {self._named} with its layers tapped: {first_line(error)}",
                    "compare it without --per-layer, or export the file again",
                ) from error
        return CopyRunner(session, copy.aliases, name=name)


class CopyRunner(OnnxrtRunner):  # type: ignore[misc] # Polygraphy has no types
    """Runs a copy; a tensor that enters several layers is among the outputs once for each of them."""

    def __init__(self, session: onnxruntime.InferenceSession, aliases: dict[str, str], *, name: str) -> None:
        super().__init__(session, name=name)
        self._aliases = aliases

    def infer_impl(self, feed_dict: Feed) -> Feed:
        """Run it once."""
        start = time.perf_counter()
        made: Feed = dict(
            zip((each.name for each in self.sess.get_outputs()), self.sess.run(None, feed_dict), strict=True)
        )
        self.inference_time = time.perf_counter() - start
        return made | {tap: made[first] for tap, first in self._aliases.items() if first in made}
