"""CUDA events and graphs on one stream, from the CUDA driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvfp4_trt.kernels.driver import cuda
from nvfp4_trt.kernels.gpu import call

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType
    from typing import Self


class Graph:
    """Work captured from a stream, launched again as one.

    Args:
        driver: `cuda.bindings.driver`.
        handle: of the executable graph.
        stream: the stream's handle.
    """

    def __init__(self, driver: ModuleType, handle: Any, stream: int) -> None:
        self._driver, self._handle, self._stream = driver, handle, stream

    def launch(self) -> None:
        """Launch it in the stream; nothing waits for it."""
        call(self._driver, "cuGraphLaunch", self._handle, self._stream)

    def free(self) -> None:
        """Give it back."""
        call(self._driver, "cuGraphExecDestroy", self._handle)


class Stopwatch:
    """Times work in a stream by the GPU's own clock: an event before each run and one behind it.

    Args:
        stream: the stream's handle; its context must be current in the calling thread.

    Raises:
        DependencyMissingError: cuda-bindings is not installed, or there is no CUDA driver.
    """

    def __init__(self, stream: int) -> None:
        self._driver, self._stream = cuda(), stream
        self._events: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for event in self._events:
            call(self._driver, "cuEventDestroy", event)
        self._events.clear()

    def wait(self) -> None:
        """Wait for everything in the stream."""
        call(self._driver, "cuStreamSynchronize", self._stream)

    def each(self, run: Callable[[], None], count: int) -> list[float]:
        """Run `count` times, back to back, and return what each run took on the GPU.

        Args:
            run: enqueues the work in the stream, and does not wait for it.
            count: how often.

        Returns:
            Milliseconds; where the GPU waits for the host, that is in them.

        Raises:
            EngineRunError: the driver refuses, or the work failed.
        """
        while len(self._events) < 2 * count:
            self._events.append(call(self._driver, "cuEventCreate", 0))
        pairs = list(zip(self._events[: 2 * count : 2], self._events[1 : 2 * count : 2], strict=True))
        for start, end in pairs:
            call(self._driver, "cuEventRecord", start, self._stream)
            run()
            call(self._driver, "cuEventRecord", end, self._stream)
        self.wait()
        return [float(call(self._driver, "cuEventElapsedTime", start, end)) for start, end in pairs]

    def capture(self, run: Callable[[], None]) -> Graph:
        """Capture what `run` enqueues, instead of running it.

        Raises:
            EngineRunError: the work cannot be captured: it waits, allocates, or uses another stream.
        """
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call(self._driver, "cuStreamBeginCapture", self._stream, mode)
        try:
            run()
        except BaseException:
            self._driver.cuStreamEndCapture(self._stream)
            raise
        graph = call(self._driver, "cuStreamEndCapture", self._stream)
        try:
            return Graph(self._driver, call(self._driver, "cuGraphInstantiate", graph, 0), self._stream)
        finally:
            call(self._driver, "cuGraphDestroy", graph)
