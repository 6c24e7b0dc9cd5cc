// Quantizes a matrix to NVFP4: one launch, whichever the scale.
#include "entries.cuh"

namespace {

struct Plain {
  static constexpr int UNROLL = NVFP4_T == 2 ? 2 : 4;
  static constexpr int LARGE_THREADS = NVFP4_T == 2 ? 512 : 1024, LARGE_HOLD = NVFP4_T == 2 ? 1 : 2;
  // 64 registers hold a long row's bf16 on Hopper, where this is fastest; what spills gets more.
#ifdef NVFP4_NATIVE_E2M1
  static constexpr int LONG_RESIDENT = 1, KNOWN_RESIDENT = 1, SHORT_RESIDENT = 1;
#else
  static constexpr int LONG_RESIDENT = NVFP4_T == 2 ? 2 : NVFP4_T == 1 ? 4 : 3, KNOWN_RESIDENT = 4;
  static constexpr int SHORT_RESIDENT = NVFP4_T == 2 ? 1 : 2;
#endif
  static __device__ __forceinline__ nvfp4::Raw load(const nvfp4::Args&, const nvfp4::Place& place) {
    return nvfp4::load_block(place.x);
  }
};

}  // namespace

NVFP4_ENTRIES(Plain)
