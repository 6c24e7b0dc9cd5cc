"""The engines of a serving set on this machine's GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvfp4_trt.errors import EngineRunError
from nvfp4_trt.kernels.gpu import Buffer, Device
from nvfp4_trt.serving.manifest import check_sha256

if TYPE_CHECKING:
    from nvfp4_trt.serving.manifest import EngineEntry, Manifest, Tensor
    from nvfp4_trt.serving.padding import Array
    from nvfp4_trt.serving.planning import Run


class EngineSession:
    """Loads every engine of a set, and runs the one that a run names.

    An engine is loaded only where it is the file that the manifest describes, and may not run code on the host.

    Args:
        folder: the serving set.
        manifest: its manifest.
        trt: the module that built it.

    Raises:
        FileTruncatedError: a file is another than the manifest describes.
        DependencyMissingError: there is no CUDA driver here.
        EngineRunError: TensorRT refuses an engine; on a GPU that it was not built for, for one.
    """

    def __init__(self, folder: Path, manifest: Manifest, trt: Any) -> None:
        files = {each.file: each.sha256 for each in manifest.engines}
        for file, expected in files.items():
            check_sha256(folder / file, expected)
        self.backend = manifest.backend
        self._manifest = manifest
        self._device = Device()
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._creators = _register_plugins(
            trt, manifest.plugin
        )  # TensorRT needs them as long as engines are loaded
        self._runtime = trt.Runtime(self._logger)
        self._runtime.engine_host_code_allowed = False
        self._engines = {file: self._load(folder / file) for file in files}
        self._contexts: dict[tuple[str, int], Any] = {}
        self._buffers = {each.name: Buffer(self._device) for each in (*manifest.inputs, *manifest.outputs)}

    def run(self, run: Run, feed: dict[str, Array]) -> dict[str, Array]:
        """See `Session.run`.

        Raises:
            EngineRunError: TensorRT or the CUDA driver failed.
        """
        self._device.enter()
        context = self._context(run.engine)
        for name, array in feed.items():
            self._must(
                context.set_input_shape(name, array.shape), f"set the shape of {name} to {array.shape}", run
            )
            memory = self._buffers[name].at_least(array.nbytes)
            self._device.upload(memory, array)
            self._must(context.set_tensor_address(name, int(memory)), f"bind {name}", run)
        places = {tensor.name: self._bind_output(context, run, tensor) for tensor in self._manifest.outputs}
        self._must(context.execute_async_v3(self._device.stream), "run", run)
        got = {}
        for tensor in self._manifest.outputs:
            shape = tensor.shape_at(run.extents)
            got[tensor.name] = self._device.download(places[tensor.name], shape, tensor.numpy_dtype)
        self._device.wait()
        return got

    def close(self) -> None:
        """Unload the engines and give the GPU's memory back."""
        self._device.enter()
        self._device.wait()
        self._contexts.clear()
        self._engines.clear()
        for buffer in self._buffers.values():
            buffer.free()
        self._device.close()

    def _load(self, path: Path) -> Any:
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineRunError(
                f"{self.backend} refuses {path}, which version {self._manifest.version} built for "
                f"{', '.join(self._manifest.targets) or 'the GPU of its machine'}",
                "its own words are above; build on this machine, or serve with backend='onnxruntime'",
            )
        return engine

    def _context(self, entry: EngineEntry) -> Any:
        """Return the execution context of one profile, made at its first run and kept."""
        key = (entry.file, entry.profile)
        if key not in self._contexts:
            context = self._engines[entry.file].create_execution_context()
            if context is None:
                raise EngineRunError(
                    f"{self.backend} makes no execution context of {entry.file}", "check the GPU's free memory"
                )
            if entry.profile and not context.set_optimization_profile_async(entry.profile, self._device.stream):
                raise EngineRunError(
                    f"{self.backend} has no profile {entry.profile} in {entry.file}", "build the set again"
                )
            self._contexts[key] = context
        return self._contexts[key]

    def _bind_output(self, context: Any, run: Run, tensor: Tensor) -> Any:
        name = tensor.name
        expected = tensor.shape_at(run.extents)
        found = tuple(context.get_tensor_shape(name))
        self._must(found == expected, f"give {name} the shape {expected} (it has {found})", run)
        memory = self._buffers[name].at_least(math.prod(expected) * tensor.numpy_dtype.itemsize)
        self._must(context.set_tensor_address(name, int(memory)), f"bind {name}", run)
        return memory

    def _must(self, done: object, what: str, run: Run) -> None:
        if not done:
            raise EngineRunError(
                f"{self.backend} could not {what} at {run.extents}, in {run.engine.file}",
                "its own words are above; serve with backend='onnxruntime' meanwhile",
            )


def _register_plugins(trt: Any, pack: str) -> list[Any]:
    if not pack:
        return []
    from nvfp4_trt.kernels import load_pack
    from nvfp4_trt.plugin import register

    return register(trt, load_pack(Path(pack)))
