"""Small kernels of every kind that a pack can hold, good and bad, as folders of sources."""

import json
import textwrap

SUM = """
    #include "types.cuh"

    struct Args { const T* x; float* total; int n; };

    extern "C" __global__ void __launch_bounds__(128) add_all(const __grid_constant__ Args args) {
      __shared__ float part[128];
      float sum = 0.0f;
      for (int i = threadIdx.x; i < args.n; i += 128) sum += static_cast<float>(args.x[i]);
      part[threadIdx.x] = sum;
      __syncthreads();
      if (threadIdx.x == 0) {
        for (int i = 1; i < 128; ++i) sum += part[i];
        *args.total = sum;
      }
    }

    extern "C" __global__ void scale(const __grid_constant__ Args args) {
      args.total[threadIdx.x] = args.total[threadIdx.x] * 3.0f + 1.0f;
    }
"""
TYPES = """
    #if NVFP4_T == 2
    using T = float;
    #elif NVFP4_T == 1
    using T = short;
    #else
    using T = unsigned short;
    #endif
"""
LOCAL_ARRAY = """
    struct Args { const float* x; float* out; int n, step; };

    extern "C" __global__ void gather(const __grid_constant__ Args args) {
      float held[64];
      for (int i = 0; i < 64; ++i) held[i] = args.x[i];
      for (int i = 0; i < args.n; ++i) held[i & 63] += held[i * args.step & 63];
      args.out[threadIdx.x] = held[args.n & 63];
    }
"""
TWO_PARAMETERS = 'extern "C" __global__ void fill(float* x, float value) { x[threadIdx.x] = value; }\n'
BROKEN = 'extern "C" __global__ void broken(float* x) { x[0] = no_such_name; }\n'
BF16_GEMM = """
    from typing import NamedTuple

    import triton
    import triton.language as tl


    class Tile(NamedTuple):
        block_m: int
        block_n: int
        block_k: int
        warps: int
        stages: int


    TILES = {"32x32x32": Tile(32, 32, 32, 4, 1)}
    KINDS = {"f16": "*fp16", "bf16": "*bf16", "f32": "*fp32"}


    def variant(name, sm):
        return TILES[name]


    def signature(dtype):
        return {"a": "*bf16", "b": "*bf16", "out": KINDS[dtype]} | dict.fromkeys(("M_", "N_", "K_"), "constexpr")


    def constants(tile):
        return {"M_": tile.block_m, "N_": tile.block_n, "K_": tile.block_k}


    def attributes():
        return {}


    @triton.jit
    def gemm_kernel(a, b, out, M_: tl.constexpr, N_: tl.constexpr, K_: tl.constexpr):
        m, n, k = tl.arange(0, M_), tl.arange(0, N_), tl.arange(0, K_)
        x = tl.load(a + m[:, None] * K_ + k[None, :])
        w = tl.load(b + k[:, None] * N_ + n[None, :])
        tl.store(out + m[:, None] * N_ + n[None, :], tl.dot(x, w).to(out.dtype.element_ty))
"""
ANY_SHAPE = {"max_m": None, "max_n": None, "max_k": None, "tile": "32x32x32", "split_k": 1}


def write_sources(folder, **files):
    """Write sources, `sum_cu=SUM` as sum.cu, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / f"{stem}.{ending}").write_text(textwrap.dedent(text))
    return folder


def good_sources(folder):
    return write_sources(folder, sum_cu=SUM, types_cuh=TYPES)


def gemm_sources(folder, tile="32x32x32", sms=(90, 120)):
    table = {f"sm_{sm}": {"source": "chosen", "rows": [ANY_SHAPE | {"tile": tile}]} for sm in sms}
    return write_sources(folder, gemm_py=BF16_GEMM, gemm_tiles_json=json.dumps(table))
