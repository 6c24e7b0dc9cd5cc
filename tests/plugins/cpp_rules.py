"""Compiles the parts of the C++ plugin that need no TensorRT, with a pack's table in them, and asks them."""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

from nvfp4_trt.kernels.pack import Entry, GemmTile, KernelFile, Manifest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "plugins" / "tensorrt"
EMBED = SOURCES / "embed_pack.py"
CORE = ("attributes", "launch", "pack", "shapes", "tiles", "launch_rules")
DTYPES = ("f16", "bf16", "f32")


def dice(seed):
    return random.Random(seed)  # noqa: S311 (no secret)


def write_pack(folder, gemm_tiles, tiles, sms):
    """Write a pack of arbitrary bytes: embedding looks at hashes and names, never into a cubin."""
    folder.mkdir(parents=True)
    kernels = []
    for sm in sms:
        for dtype in DTYPES:
            for kernel, tile in [("quantize", None), *(("gemm", tile) for tile in tiles)]:
                name = ".".join([kernel, dtype, *([tile.name] if tile else []), f"sm_{sm}", "cubin"])
                data = hashlib.sha256(name.encode()).digest() * (1 + len(kernels))
                (folder / name).write_bytes(data)
                kernels.append(record(name, data, kernel, dtype, sm, tile))
    manifest = Manifest(
        package_version="0", compilers={}, sources={}, kernels=tuple(kernels), gemm_tiles=gemm_tiles
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest


def record(name, data, kernel, dtype, sm, tile):
    names = ("gemm_kernel",) if tile else ("token_1", "tensor_small")
    entries = tuple(Entry(name=n, registers=32, shared_bytes=0, local_bytes=0, max_threads=0) for n in names)
    return KernelFile(
        file=name,
        sha256=hashlib.sha256(data).hexdigest(),
        kernel=kernel,
        dtype=dtype,
        sm=sm,
        entries=entries,
        fp4_opcode=None,
        opcodes={},
        tile=tile,
        params=(),
    )


def tile(block_m, block_n, block_k, warps=4, scratch_bytes=0):
    return GemmTile(
        block_m=block_m,
        block_n=block_n,
        block_k=block_k,
        warps=warps,
        stages=3,
        shared_bytes=65536,
        scratch_bytes=scratch_bytes,
    )


def embed(pack, out, *options):
    """Run embed_pack.py as the build does."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, str(EMBED), str(pack), str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compile_rules(embedded, program):
    """Compile `launch_rules`; a warning is an error."""
    sources = [str(SOURCES / f"{name}.cpp") for name in CORE]
    generated = [str(embedded / "pack_table.cpp"), str(embedded / "pack_data.S")]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{SOURCES}"]
    subprocess.run(["g++", *flags, *sources, *generated, "-o", str(program)], check=True)
    return program


def ask(program, lines):
    """Return the program's answer to each line."""
    done = subprocess.run(
        [str(program)], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    return answers
