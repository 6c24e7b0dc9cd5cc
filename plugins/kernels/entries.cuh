// The entry points of a kernel whose blocks `Source` computes one by one.
#pragma once

#include "elementwise.cuh"

// Dynamic shared memory begins with the buffers of the reductions.
#ifdef NVFP4_ON_CPU
#define NVFP4_SHARED()                                                     \
  [[maybe_unused]] uint32_t* dynamic = nvfp4::shared_memory();             \
  [[maybe_unused]] nvfp4::Quad* stash = reinterpret_cast<nvfp4::Quad*>(dynamic + nvfp4::REDUCTION_WORDS)
#else
#define NVFP4_SHARED()                                 \
  extern __shared__ __align__(16) uint32_t dynamic[];  \
  [[maybe_unused]] nvfp4::Quad* stash = reinterpret_cast<nvfp4::Quad*>(dynamic + nvfp4::REDUCTION_WORDS)
#endif

// Each entry says how many threads a block has at most, and how many blocks of so many a multiprocessor should
// hold: that is what decides the registers.
#define NVFP4_ENTRY(NAME, THREADS, RESIDENT, CALL)                                             \
  extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)                              \
      NAME(const __grid_constant__ nvfp4::Args args) {                                         \
    NVFP4_SHARED();                                                                            \
    CALL;                                                                                      \
  }

#define NVFP4_ENTRIES(SOURCE)                                                                                   \
  NVFP4_ENTRY(token_short, 512, SOURCE::SHORT_RESIDENT, (nvfp4::quantize_rows<SOURCE, 1>(args, dynamic)))       \
  NVFP4_ENTRY(token_long, 256, SOURCE::LONG_RESIDENT,                                                           \
              (nvfp4::quantize_rows<SOURCE, nvfp4::LONG_HOLD>(args, dynamic)))                                  \
  NVFP4_ENTRY(tensor_small, 256, 1, (nvfp4::quantize_tensor<SOURCE, 1>(args, dynamic, stash)))                  \
  NVFP4_ENTRY(tensor_large, SOURCE::LARGE_THREADS, 1,                                                           \
              (nvfp4::quantize_tensor<SOURCE, SOURCE::LARGE_HOLD>(args, dynamic, stash)))                       \
  NVFP4_ENTRY(known_static, 256, SOURCE::KNOWN_RESIDENT,                                                        \
              nvfp4::quantize_with_known_scale<SOURCE>(args, nvfp4::scale_from(*args.scale_in)))                \
  NVFP4_ENTRY(known_single, 256, SOURCE::KNOWN_RESIDENT,                                                        \
              nvfp4::quantize_with_known_scale<SOURCE>(args, nvfp4::Scale{1.0f, 1.0f}))
