#include "launch.hpp"

#include <algorithm>

#include "shapes.hpp"

namespace nvfp4 {

namespace {

constexpr int WARP = 32;
constexpr int REDUCTION_BYTES = 256;
constexpr int ROW_THREADS = 128;
constexpr int SHORT_THREADS = 512;
constexpr int LONG_THREADS = 256;
constexpr int KNOWN_THREADS = 256;
constexpr int KNOWN_THREADS_FEW = 64;
constexpr int SMALL_THREADS = 256;
// Below so many rows for each multiprocessor, a row is spread over more threads, each with one block of 16.
constexpr int MANY_ROWS = 4;

struct RowThreads {
  const char* length;  // in the entry's name
  int group, block;    // threads of a row, and of a block
};

RowThreads row_threads(Dtype dtype, std::int64_t rows, std::int64_t blocks, const DeviceLimits& device) {
  const bool few = rows < static_cast<std::int64_t>(MANY_ROWS) * device.multiprocessors;
  const bool is_short = few && blocks <= SHORT_THREADS;
  const char* const length = is_short ? "short" : "long";
  const std::int64_t needed = is_short ? blocks : ceil_div(blocks, dtype == Dtype::F32 ? 2 : 4);
  if (needed <= WARP) {
    int group = 4;
    while (group < needed) group *= 2;
    return RowThreads{length, group, ROW_THREADS};
  }
  const int most = is_short ? SHORT_THREADS : LONG_THREADS;
  const int block = static_cast<int>(std::min<std::int64_t>(ceil_div(needed, WARP) * WARP, most));
  return RowThreads{length, block, block};
}

// How many blocks wait for each other at most.
std::int64_t barrier_blocks(const DeviceLimits& device) { return std::min(device.multiprocessors, MOST_BLOCKS); }

// The blocks of 16 that a thread gets at most, where `threads`, at least a row's, walk over a matrix.
std::int64_t rounds_of(std::int64_t rows, std::int64_t blocks, std::int64_t threads) {
  return ceil_div(rows, threads / blocks);
}

// A scale for each row, or a norm: threads share rows.
Launch by_rows(Scaling scaling, Dtype dtype, std::int64_t rows, std::int64_t blocks, const DeviceLimits& device) {
  const RowThreads threads = row_threads(dtype, rows, blocks, device);
  Launch launch;
  launch.entry = std::string(name_of(scaling)) + "_" + threads.length;
  launch.grid_x = ceil_div(rows, threads.block / threads.group);
  launch.block = threads.block;
  launch.shared_bytes = REDUCTION_BYTES;
  if (scaling == Scaling::TENSOR) {
    launch.grid_x = std::min(launch.grid_x, barrier_blocks(device));
    launch.cooperative = launch.grid_x > 1;
  }
  launch.group = threads.group;
  return launch;
}

Launch tensor(const std::string& kernel, Dtype dtype, std::int64_t rows, std::int64_t blocks,
              const DeviceLimits& device) {
  const std::int64_t total = rows * blocks;
  Launch launch;
  if (total <= barrier_blocks(device) * SMALL_THREADS) {
    launch.entry = "tensor_small";
    launch.grid_x = ceil_div(total, SMALL_THREADS);
    launch.block = SMALL_THREADS;
    launch.shared_bytes = REDUCTION_BYTES;
    launch.cooperative = launch.grid_x > 1;
    return launch;
  }
  const bool narrow = kernel == "quantize" && dtype != Dtype::F32;
  launch.entry = "tensor_large";
  launch.grid_x = barrier_blocks(device);
  launch.block = narrow ? 1024 : 512;
  launch.cooperative = true;
  if (blocks > launch.grid_x * launch.block) {
    throw Error("K = " + std::to_string(blocks * BLOCK) + " is too long for a run-time scale over " +
                std::to_string(rows) + " rows");
  }
  // What registers do not hold of a thread's blocks goes to shared memory, as far as there is any.
  const int held = narrow ? 2 : 1;
  const int slot = launch.block * BLOCK * static_cast<int>(size_of(dtype));
  const std::int64_t wanted = std::max<std::int64_t>(rounds_of(rows, blocks, launch.grid_x * launch.block) - held, 0);
  launch.stash = static_cast<int>(std::min<std::int64_t>(wanted, (device.shared_bytes - REDUCTION_BYTES) / slot));
  launch.shared_bytes = REDUCTION_BYTES + launch.stash * slot;
  return launch;
}

}  // namespace

Launch quantize_launch(const std::string& kernel, Scaling scaling, Dtype dtype, std::int64_t rows, std::int64_t k,
                       const DeviceLimits& device) {
  const std::int64_t blocks = k / BLOCK, total = rows * blocks;
  if (kernel == "norm_quantize") return by_rows(scaling, dtype, rows, blocks, device);
  // A matrix of one row has one scale either way.
  if (scaling == Scaling::TOKEN || (scaling == Scaling::TENSOR && rows == 1)) {
    return by_rows(Scaling::TOKEN, dtype, rows, blocks, device);
  }
  if (scaling == Scaling::TENSOR) return tensor(kernel, dtype, rows, blocks, device);
  Launch launch;
  launch.entry = std::string("known_") + name_of(scaling);
  const bool few = total <= static_cast<std::int64_t>(device.multiprocessors) * KNOWN_THREADS;
  launch.block = few ? KNOWN_THREADS_FEW : KNOWN_THREADS;
  // At least a thread for each block of a row.
  const std::int64_t most = std::max<std::int64_t>(4 * device.multiprocessors, ceil_div(blocks, launch.block));
  launch.grid_x = std::min(ceil_div(total, launch.block), most);
  return launch;
}

Launch gemm_launch(const Tile& tile, std::int64_t m, std::int64_t n, int split_k) {
  Launch launch;
  launch.grid_x = ceil_div(m, tile.block_m) * ceil_div(n, tile.block_n);
  launch.grid_y = split_k;
  launch.block = tile.warps * WARP;
  launch.shared_bytes = tile.shared_bytes;
  return launch;
}

}  // namespace nvfp4
