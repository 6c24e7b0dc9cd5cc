#include "tiles.hpp"

#include <algorithm>

#include "shapes.hpp"

namespace nvfp4 {

namespace {

// Each split gets at least one tile of K, and each tile of the output a counter.
int usable_splits(const TileRow& row, std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::int64_t output_tiles = ceil_div(m, row.block_m) * ceil_div(n, row.block_n);
  if (output_tiles > MAX_SPLIT_TILES) return 1;
  return static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(row.split_k, ceil_div(k, row.block_k))));
}

Workspace workspace_of(std::int64_t partials, std::int64_t scratch) {
  const auto aligned = [](std::int64_t bytes) { return ceil_div(bytes, SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT; };
  if (scratch == 0) return Workspace{static_cast<std::size_t>(partials), static_cast<std::size_t>(partials)};
  const std::int64_t begin = aligned(partials);
  return Workspace{static_cast<std::size_t>(begin), static_cast<std::size_t>(begin + aligned(scratch))};
}

// The scratch memory of a program of this row's tile; 0 where the pack has no such cubin, which then cannot run.
std::int64_t scratch_of(const Pack& pack, Dtype dtype, const TileRow& row) {
  for (int i = 0; i < pack.cubin_count; ++i) {
    const Cubin& cubin = pack.cubins[i];
    const Tile* const tile = cubin.tile;
    if (tile == nullptr || cubin.sm != row.sm || cubin.dtype != dtype) continue;
    const bool same = tile->block_m == row.block_m && tile->block_n == row.block_n && tile->block_k == row.block_k;
    if (same) return tile->scratch_bytes;
  }
  return 0;
}

}  // namespace

TileChoice choose_tile(const Pack& pack, int sm, std::int64_t m, std::int64_t n, std::int64_t k) {
  for (int i = 0; i < pack.row_count; ++i) {
    const TileRow& row = pack.rows[i];
    if (row.sm == sm && m <= row.max_m && n <= row.max_n && k <= row.max_k) {
      return TileChoice{tile_name(row.block_m, row.block_n, row.block_k), usable_splits(row, m, n, k)};
    }
  }
  throw Error("the kernel pack's table has no GEMM tile for sm_" + std::to_string(sm) + " and " +
              text_of({m, n, k}) + " (M, N, K)");
}

std::size_t partials_bytes(int split_k, std::int64_t m, std::int64_t n) {
  if (split_k <= 1) return 0;
  return static_cast<std::size_t>(split_k) * static_cast<std::size_t>(m) * static_cast<std::size_t>(n) * sizeof(float);
}

Workspace gemm_workspace(const Tile& tile, int split_k, std::int64_t m, std::int64_t n) {
  const std::int64_t programs = ceil_div(m, tile.block_m) * ceil_div(n, tile.block_n) * split_k;
  return workspace_of(static_cast<std::int64_t>(partials_bytes(split_k, m, n)), programs * tile.scratch_bytes);
}

std::size_t largest_workspace(const Pack& pack, Dtype dtype, std::int64_t max_m, std::int64_t max_n,
                              std::int64_t max_k) {
  std::size_t largest = 0;
  for (int i = 0; i < pack.row_count; ++i) {
    const TileRow& row = pack.rows[i];
    const std::int64_t m = std::min(max_m, row.max_m), n = std::min(max_n, row.max_n), k = std::min(max_k, row.max_k);
    const std::int64_t tiles = ceil_div(m, row.block_m) * ceil_div(n, row.block_n);
    const std::int64_t splits = std::min<std::int64_t>(row.split_k, ceil_div(k, row.block_k));
    // What is split has no more tiles than there are counters.
    const std::int64_t split_tiles = std::min(tiles, MAX_SPLIT_TILES);
    const std::int64_t sums = splits > 1 ? splits * std::min(m * n, split_tiles * row.block_m * row.block_n) : 0;
    const std::int64_t programs = std::max(tiles, splits * split_tiles);
    const Workspace bound =
        workspace_of(sums * static_cast<std::int64_t>(sizeof(float)), programs * scratch_of(pack, dtype, row));
    largest = std::max(largest, bound.bytes);
  }
  return largest;
}

}  // namespace nvfp4
