"""Kernel packs whose manifests are written by hand: records of cubins, and files that are none."""

import hashlib
import json

from nvfp4_trt.kernels import load_pack

TILES = {"16x128x256": (16, 128, 256, 4), "128x128x128": (128, 128, 128, 8)}
ROWS = [
    {"max_m": 16, "max_n": None, "max_k": None, "tile": "16x128x256", "split_k": 4},
    {"max_m": 64, "max_n": None, "max_k": None, "tile": "16x128x256", "split_k": 2},
    {"max_m": None, "max_n": None, "max_k": None, "tile": "128x128x128", "split_k": 1},
]


def write_pack(folder, *, sm=120, opcode="OMMA", sms=(), scratch=0):
    """Write a pack of every kernel for the architectures; its cubins say their names and nothing else.

    Programs of its GEMMs need `scratch` bytes each; where that is 0 the manifest, like older ones, does not say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kernels = [record for each in sms or (sm,) for record in _records(folder, each, opcode, scratch)]
    manifest = {
        "format_version": 1,
        "package_version": "0",
        "compilers": {},
        "sources": {},
        "kernels": kernels,
        "gemm_tiles": {f"sm_{each}": {"source": "by hand", "rows": ROWS} for each in sms or (sm,)},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_pack(folder)


def _records(folder, sm, opcode, scratch):
    for dtype in ("f16", "bf16", "f32"):
        for kernel in ("quantize", "norm_quantize", "activation_quantize"):
            yield _record(folder, f"{kernel}.{dtype}.sm_{sm}.cubin", kernel, dtype, sm)
        for name, tile in TILES.items():
            made = _record(folder, f"gemm.{dtype}.{name}.sm_{sm}.cubin", "gemm", dtype, sm)
            fields = ("block_m", "block_n", "block_k", "warps")
            made["tile"] = {**dict(zip(fields, tile, strict=True)), "stages": 3, "shared_bytes": 65536}
            made["tile"] |= {"scratch_bytes": scratch} if scratch else {}
            yield {**made, "fp4_opcode": opcode}


def _record(folder, file, kernel, dtype, sm):
    data = file.encode()
    (folder / file).write_bytes(data)
    entry = {"name": f"{kernel}_kernel", "registers": 32, "shared_bytes": 0, "local_bytes": 0, "max_threads": 512}
    return {
        "file": file,
        "sha256": hashlib.sha256(data).hexdigest(),
        "kernel": kernel,
        "dtype": dtype,
        "sm": sm,
        "entries": [entry],
        "fp4_opcode": None,
        "opcodes": {},
        "tile": None,
        "params": [],
    }
