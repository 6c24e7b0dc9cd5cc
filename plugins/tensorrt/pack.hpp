// The kernel pack as it lies in this library: cubins by `.incbin`, and a table generated from `manifest.json`
// by embed_pack.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "dtype.hpp"

namespace nvfp4 {

constexpr std::int64_t ANY = std::numeric_limits<std::int64_t>::max();

struct Entry {
  const char* name;
  int shared_bytes;  // static shared memory of a block
};

struct Tile {
  int block_m, block_n, block_k;
  int warps;          // of 32 threads, a block
  int shared_bytes;   // dynamic shared memory of a launch
  int scratch_bytes;  // device memory of each program of the grid: its TMA descriptors, or 0
};

struct Cubin {
  const char* file;
  const char* kernel;
  Dtype dtype;  // of a GEMM: its output's
  int sm;
  const Tile* tile;  // null unless the kernel is a GEMM
  const unsigned char* data;
  const unsigned char* end;
  const Entry* entries;
  int entry_count;
};

// Use this tile and this many splits of K, up to these sizes. ANY: whatever the size.
struct TileRow {
  int sm;
  std::int64_t max_m, max_n, max_k;
  int block_m, block_n, block_k;
  int split_k;
};

struct Pack {
  const Cubin* cubins;
  int cubin_count;
  const TileRow* rows;  // of every architecture, in the order in which they are tried
  int row_count;
  const char* digest;  // changes with any cubin or row
};

// The pack that this binary was built with.
const Pack& embedded_pack();

std::string tile_name(int block_m, int block_n, int block_k);

// The cubin of a kernel for this architecture. `tile` is its tile's name, empty unless the kernel is a GEMM.
// Throws Error, saying what there is, where there is none.
const Cubin& find_cubin(const Pack& pack, const std::string& kernel, Dtype dtype, int sm, const std::string& tile = "");

const Entry& find_entry(const Cubin& cubin, const std::string& name);

}  // namespace nvfp4
