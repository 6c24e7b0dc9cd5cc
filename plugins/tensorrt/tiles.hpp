// Which GEMM tile is used for which problem, and the memory that its splits of K and its programs take.
// The same rules as nvfp4_trt/kernels/tiles.py; tests/plugins compares the two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "pack.hpp"

namespace nvfp4 {

constexpr std::int64_t MAX_SPLIT_TILES = 8192;  // as many counters are in the state memory
constexpr std::int64_t SCRATCH_ALIGNMENT = 256;

struct TileChoice {
  std::string tile;
  int split_k;
};

// Throws Error where the pack has no row for this architecture and problem.
TileChoice choose_tile(const Pack& pack, int sm, std::int64_t m, std::int64_t n, std::int64_t k);

// Bytes of fp32 partial sums that split_k > 1 takes: [split_k, M, N].
std::size_t partials_bytes(int split_k, std::int64_t m, std::int64_t n);

// What a launch needs while it runs: partial sums, and behind them its programs' scratch memory.
struct Workspace {
  std::size_t scratch;  // where scratch memory begins
  std::size_t bytes;    // of both
};
Workspace gemm_workspace(const Tile& tile, int split_k, std::int64_t m, std::int64_t n);

// As much workspace as any problem up to these sizes takes, on any architecture of the pack. At times more: it is
// a bound that does without trying all sizes.
std::size_t largest_workspace(const Pack& pack, Dtype dtype, std::int64_t max_m, std::int64_t max_n,
                              std::int64_t max_k);

}  // namespace nvfp4
