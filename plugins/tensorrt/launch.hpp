// How each kernel is launched: pure functions of shapes and of the device.
// The same rules as nvfp4_trt/kernels/launch.py; tests/plugins/test_cpp_launch_rules.py compares the two.
#pragma once

#include <cstdint>
#include <string>

#include "attributes.hpp"
#include "pack.hpp"

namespace nvfp4 {

constexpr int MOST_BLOCKS = 192;  // of a grid with a barrier

// Memory that the kernels keep between launches of a stream, zeroed when it is made: the grid barrier's slots,
// the counters of the GEMM's splits, and the barrier's mailboxes.
constexpr int STATE_BYTES = 65536 + MOST_BLOCKS * MOST_BLOCKS * 8;
constexpr int COUNTERS_OFFSET = 32768;

struct DeviceLimits {
  int multiprocessors;
  int shared_bytes;  // dynamic shared memory that one block may have, at most
};

struct Launch {
  std::string entry;
  std::int64_t grid_x = 1, grid_y = 1;
  int block = 0;
  int shared_bytes = 0;      // dynamic
  bool cooperative = false;  // whether all blocks must run at once
  int group = 0;             // threads that share a row
  int stash = 0;             // blocks of 16 that a thread keeps in shared memory
};

// rows: M, at least 1; k: a multiple of 16. Throws Error where K / 16 exceeds the threads of a grid with a barrier.
Launch quantize_launch(const std::string& kernel, Scaling scaling, Dtype dtype, std::int64_t rows, std::int64_t k,
                       const DeviceLimits& device);

// `entry` stays empty: it is the only one of the tile's cubin.
Launch gemm_launch(const Tile& tile, std::int64_t m, std::int64_t n, int split_k);

}  // namespace nvfp4
