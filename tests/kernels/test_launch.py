"""The launch rules: what must hold for every shape and device, and that the kernels are compiled for it."""

import itertools
import shutil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvfp4_trt.kernels import GemmTile
from nvfp4_trt.kernels.build import build_pack
from nvfp4_trt.kernels.disassembly import inspect_cubin
from nvfp4_trt.kernels.launch import (
    BLOCK,
    COUNTERS_OFFSET,
    STATE_BYTES,
    Device,
    dequantize_launch,
    gemm_launch,
    quantize_launch,
)
from nvfp4_trt.kernels.sources import DTYPES, SOURCES

KERNELS = ("quantize", "norm_quantize", "activation_quantize")
SCALINGS = ("token", "tensor", "static", "single")
MOST_BLOCKS = 192
REDUCTION_BYTES = 256

kernels, scalings, dtypes = (st.sampled_from(each) for each in (KERNELS, SCALINGS, DTYPES))
sizes = st.one_of(st.integers(1, 40), st.integers(1, 20_000), st.integers(0, 20).map(lambda e: 2**e))
row_blocks = st.one_of(st.integers(1, 600), st.integers(0, 11).map(lambda e: 2**e))
devices = st.builds(
    Device,
    multiprocessors=st.one_of(st.integers(1, 400), st.sampled_from([48, 132, 148, 170])),
    shared_bytes=st.sampled_from([49_152, 101_376, 166_912, 232_448]),
)
anything = given(kernels, scalings, dtypes, sizes, row_blocks, devices)


def launched(kernel, scaling, dtype, rows, blocks, device):
    """Return the launch, or None where the rules refuse it: rows longer than the grid has threads."""
    threads = 1024 if kernel == "quantize" and dtype != "f32" else 512
    too_long = rows > 1 and blocks > threads * min(device.multiprocessors, MOST_BLOCKS)
    if scaling == "tensor" and kernel != "norm_quantize" and too_long:
        with pytest.raises(ValueError, match=f"K = {blocks * BLOCK} is too long"):
            quantize_launch(kernel, scaling, dtype, rows, blocks * BLOCK, device)
        return None
    return quantize_launch(kernel, scaling, dtype, rows, blocks * BLOCK, device)


@settings(max_examples=500, deadline=None)
@anything
def test_what_a_gpu_asks_of_a_launch(kernel, scaling, dtype, rows, blocks, device):
    launch = launched(kernel, scaling, dtype, rows, blocks, device)
    if launch is None:
        return
    assert 1 <= launch.grid < 2**31
    assert launch.block % 32 == 0
    assert 32 <= launch.block <= 1024
    assert 0 <= launch.shared_bytes <= device.shared_bytes
    if launch.cooperative:
        assert scaling == "tensor"
        assert launch.grid <= min(device.multiprocessors, MOST_BLOCKS)
    # More than one block under one run-time scale wait for each other: they must all run at once. A single
    # row is a token.
    waits = scaling == "tensor" and launch.grid > 1 and not launch.entry.startswith("token")
    assert launch.cooperative or not waits


@settings(max_examples=500, deadline=None)
@anything
def test_every_block_of_the_matrix_has_a_thread(kernel, scaling, dtype, rows, blocks, device):
    launch = launched(kernel, scaling, dtype, rows, blocks, device)
    if launch is None:
        return
    if launch.group:
        # A row belongs to a group: neighbours in a warp, or all of a block's threads.
        assert (launch.group <= 32 and launch.group & (launch.group - 1) == 0) or launch.group == launch.block
        assert launch.group % 4 == 0
        assert launch.block % launch.group == 0
        at_once = launch.grid * (launch.block // launch.group)
        assert at_once >= rows or launch.cooperative or (scaling == "tensor" and launch.grid == 1)
        if "short" in launch.entry:
            assert launch.group >= blocks  # each thread holds one block of 16
    else:
        # A thread walks down a column: there must be one for each.
        assert launch.grid * launch.block >= blocks
    if launch.group or scaling == "tensor":
        assert launch.shared_bytes >= REDUCTION_BYTES


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KERNELS[::2]), dtypes, st.integers(1, 100_000), row_blocks, devices)
def test_the_stash_lies_in_shared_memory_and_is_used(kernel, dtype, rows, blocks, device):
    launch = launched(kernel, "tensor", dtype, rows, blocks, device)
    if launch is None or launch.entry != "tensor_large":
        return
    slot = launch.block * BLOCK * (4 if dtype == "f32" else 2)
    assert launch.shared_bytes == REDUCTION_BYTES + launch.stash * slot
    rounds = -(-rows // (launch.grid * launch.block // blocks))
    assert 0 <= launch.stash <= max(rounds - 1, 0)


def test_too_long_a_row_is_refused():
    device = Device(multiprocessors=2, shared_bytes=100_000)
    longest = 2 * 1024 * BLOCK
    assert quantize_launch("quantize", "tensor", "bf16", 2, longest, device).entry == "tensor_large"
    with pytest.raises(ValueError, match=f"K = {longest + BLOCK} is too long"):
        quantize_launch("quantize", "tensor", "bf16", 2, longest + BLOCK, device)
    assert quantize_launch("quantize", "tensor", "bf16", 1, longest + BLOCK, device).entry == "token_long"
    assert quantize_launch("norm_quantize", "tensor", "bf16", 2, longest + BLOCK, device).grid == 2


def test_the_state_has_room_for_every_barrier():
    """Slots from word 8 and, behind the counters, a row of mailboxes for each block (`reduce.cuh`)."""
    source = (SOURCES / "reduce.cuh").read_text()
    assert f"FIRST_SLOT = 8, FIRST_MAILBOX = 8192, MAILBOXES = {MOST_BLOCKS};" in source
    assert (8 + MOST_BLOCKS) * 8 <= COUNTERS_OFFSET
    assert COUNTERS_OFFSET + 8192 * 4 <= 8192 * 8
    assert STATE_BYTES == (8192 + MOST_BLOCKS * MOST_BLOCKS) * 8


@given(sizes, row_blocks, devices)
def test_dequantizing_has_a_thread_for_each_column(rows, blocks, device):
    launch = dequantize_launch(rows, blocks * BLOCK, device)
    assert launch.grid * launch.block >= blocks
    assert launch.grid <= -(-rows * blocks // launch.block)


@given(st.integers(1, 100_000), st.integers(1, 20_000), st.integers(1, 16))
def test_gemm_programs_cover_the_output(m, n, split_k):
    tile = GemmTile(block_m=64, block_n=128, block_k=128, warps=4, stages=3, shared_bytes=0)
    (x, y, z), block = gemm_launch(tile, m, n, split_k)
    assert (y, z, block) == (split_k, 1, 128)
    assert x * 64 * 128 >= m * n
    assert x == -(-m // 64) * -(-n // 128)


@pytest.fixture(scope="module")
def bounds(tmp_path_factory):
    """Return the most threads of a block of every entry, by kernel and dtype, as the compiler wrote them down.

    The entries are compiled without their bodies, which take the compiler a minute and the bounds nothing.
    """
    folder = tmp_path_factory.mktemp("bounds")
    sources = folder / "sources"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__", "gemm*"))
    header = sources / "entries.cuh"
    text = header.read_text()
    assert text.count("    CALL;") == 1
    header.write_text(text.replace("    CALL;", "    (void)args;"))
    pack = build_pack(folder / "pack", sms=[90], kernels=(*KERNELS, "dequantize"), sources=sources)
    return {
        (each.kernel, each.dtype): {
            name: found.max_threads for name, found in inspect_cubin(pack.root / each.file).items()
        }
        for each in pack.manifest.kernels
    }


def test_the_kernels_are_compiled_for_their_launches(bounds):
    """Every entry is launched, with as many threads as it is compiled for at most, and at some shape with all."""
    used = {key: dict.fromkeys(entries, 0) for key, entries in bounds.items()}
    assert set(used) == {(kernel, dtype) for kernel in (*KERNELS, "dequantize") for dtype in DTYPES}
    device = Device(multiprocessors=132, shared_bytes=232_448)
    random = Random(0)  # noqa: S311
    some = [(int(2 ** random.uniform(0, 17)), int(2 ** random.uniform(0, 11))) for _ in range(300)]
    shapes = [*itertools.product((1, 16, 100, 1000, 20_000), (1, 40, 300, 512, 513, 1100)), *some]
    for (kernel, dtype), most in used.items():
        if kernel == "dequantize":
            most[kernel] = max(dequantize_launch(rows, k * BLOCK, device).block for rows, k in shapes)
            continue
        for scaling, (rows, blocks) in itertools.product(SCALINGS, shapes):
            launch = quantize_launch(kernel, scaling, dtype, rows, blocks * BLOCK, device)
            most[launch.entry] = max(most[launch.entry], launch.block)
    assert used == bounds
