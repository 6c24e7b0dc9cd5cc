"""Checks of the timing code on any NVIDIA GPU: `python -m tests.timing_checks [CUBIN]`, by hand.

A kernel that spins for a time that it is told, by the GPU's own nanosecond clock, is timed by the code that times
engines: events around single launches, and a CUDA graph. CUBIN is what `python -m tests.timing_checks --compile
CUBIN SM` wrote, which needs NVRTC and no GPU; without it, the kernel is compiled here. Each line printed is one
check; the exit status is 0 where all hold.
"""

import ctypes
import sys
from pathlib import Path

from nvfp4_trt.kernels.driver import Library, cuda, device_limits
from nvfp4_trt.kernels.gpu import Device
from nvfp4_trt.runners.engine_runner import find_cuda_runtime
from nvfp4_trt.timing import Effort, MemoryWatch, measure, summarize

SPIN = """
extern "C" __global__ void spin(long long nanoseconds) {
    long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
}
"""
EFFORT = Effort(warmup_seconds=0.2, seconds=0.5, least=50)


def compiled(sm: int) -> bytes:
    from nvfp4_trt.kernels.cuda_compiler import compile_cuda

    return compile_cuda(SPIN, "spin.cu", {}, sm, {})


def spins(cubin: bytes, device: Device) -> dict[str, bool]:
    """Time kernels of known length."""
    kernel = Library(cubin, "spin").kernel("spin", 0)
    result = {}
    for microseconds in (50, 200, 1000):
        length = ctypes.c_longlong(microseconds * 1000)

        def run(times: int = 1, length: ctypes.c_longlong = length) -> None:
            for _ in range(times):
                kernel.launch((1, 1, 1), 1, 0, device.stream, [length])

        measured = measure(run, device.stream, EFFORT)
        for name, samples in (("launched", measured.plain), ("as a graph", measured.graph)):
            found = summarize(samples).median_ms * 1e3
            holds = microseconds * 0.98 <= found <= microseconds * 1.1 + 20
            result[f"spin {microseconds} us {name}: {found:.1f} us"] = holds
        ten = summarize(measure(lambda run=run: run(10), device.stream, EFFORT).graph).median_ms * 1e3
        holds = 9.8 * microseconds <= ten <= 11 * microseconds + 50
        result[f"ten spins of {microseconds} us in one graph: {ten:.1f} us"] = holds
    return result


def empty(cubin: bytes, device: Device) -> dict[str, bool]:
    """Twenty kernels that do nothing: a graph launches them faster than the host does one by one."""
    kernel = Library(cubin, "spin").kernel("spin", 0)
    nothing = ctypes.c_longlong(0)

    def run() -> None:
        for _ in range(20):
            kernel.launch((1, 1, 1), 1, 0, device.stream, [nothing])

    measured = measure(run, device.stream, EFFORT)
    plain, graph = (summarize(each).median_ms * 1e3 for each in (measured.plain, measured.graph))
    return {f"20 empty kernels: {plain:.1f} us launched, {graph:.1f} us as a graph": graph < plain}


def refusals(device: Device) -> dict[str, bool]:
    """Work that cannot be captured is said to be so, and the stream is usable afterwards."""
    measured = measure(device.wait, device.stream, EFFORT)
    again = measure(lambda: None, device.stream, EFFORT)
    return {
        f"waiting cannot be captured: {measured.graph_refused}": bool(measured.graph_refused)
        and not measured.graph,
        "the stream is usable after that": len(again.graph) >= EFFORT.least and not again.graph_refused,
    }


def polygraphy(cubin: bytes) -> dict[str, bool]:
    """The stream that Polygraphy's runner has is one of the same context, and is timed like our own."""
    find_cuda_runtime()
    from polygraphy.cuda import Stream

    kernel = Library(cubin, "spin").kernel("spin", 0)
    length = ctypes.c_longlong(200_000)
    with Stream() as stream:
        measured = measure(lambda: kernel.launch((1, 1, 1), 1, 0, stream.ptr, [length]), stream.ptr, EFFORT)
    plain, graph = (summarize(each).median_ms * 1e3 for each in (measured.plain, measured.graph))
    holds = all(196 <= each <= 240 for each in (plain, graph))
    return {f"spin 200 us in Polygraphy's stream: {plain:.1f} us launched, {graph:.1f} us as a graph": holds}


def memory(device: Device) -> dict[str, bool]:
    """The peak stays when what was taken is given back."""
    watch, size = MemoryWatch(), 256 * 2**20
    taken = device.allocate(size)
    watch.look()
    device.free(taken)
    watch.look()
    return {f"peak of 256 MiB: {watch.peak_bytes / 2**20:.1f} MiB": size <= watch.peak_bytes < 1.1 * size}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--compile"]:
        Path(arguments[1]).write_bytes(compiled(int(arguments[2])))
        return
    device = Device()
    sm, _ = device_limits(0)
    _, name = cuda().cuDeviceGetName(128, 0)
    print(name.split(b"\0")[0].decode(), f"sm_{sm}")
    cubin = Path(arguments[0]).read_bytes() if arguments else compiled(sm)
    checks = {
        **spins(cubin, device),
        **empty(cubin, device),
        **refusals(device),
        **polygraphy(cubin),
        **memory(device),
    }
    for check, held in checks.items():
        print("ok  " if held else "FAIL", check)
    print(f"{sum(checks.values())} of {len(checks)} checks hold")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
