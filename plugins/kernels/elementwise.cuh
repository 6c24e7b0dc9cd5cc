// Quantizing what can be computed block by block: `Source::load(args, place)` returns the block at a place, and
// `Source::UNROLL` of them are loaded before the first is used.
#pragma once

#include "reduce.cuh"

namespace nvfp4 {

// How a grid, of at least as many threads as a row has blocks, walks over a matrix: a thread takes a column of
// blocks, every `step`-th row of it.
struct Walk {
  const Args& args;
  int first, step, rows, rounds;  // rows: how many this thread takes; rounds: how many any takes at most
  Place top;
  __device__ __forceinline__ explicit Walk(const Args& a) : args(a) {
    const int blocks = a.K / BLOCK, thread = blockIdx.x * blockDim.x + threadIdx.x;
    step = static_cast<int>(gridDim.x * blockDim.x) / blocks;
    first = thread / blocks;
    rounds = (a.M + step - 1) / step;
    // The threads that are left over have no rows.
    rows = first < step && first < a.M ? (a.M - first + step - 1) / step : 0;
    top = column(args, thread % blocks);
  }
  __device__ __forceinline__ bool has(int i) const { return i < rows; }
  __device__ __forceinline__ Place at(int i) const { return down_to(args, top, first + i * step); }
};

// A scale for all that is known beforehand: one pass.
template <class Source>
__device__ __forceinline__ void quantize_with_known_scale(const Args& args, Scale scale) {
  constexpr int AHEAD = Source::UNROLL > 2 ? 2 : 1;
  const int thread = blockIdx.x * blockDim.x + threadIdx.x;
  if (thread == 0 && args.scale_out != nullptr) *args.scale_out = scale.value;
  const Walk walk(args);
  const int rounds = walk.rounds;
#pragma unroll 1
  for (int i = 0; i < rounds; i += AHEAD) {
    Raw raw[AHEAD];
    Place place[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      place[j] = walk.at(i + j);
      if (walk.has(i + j)) raw[j] = Source::load(args, place[j]);
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (walk.has(i + j)) finish_block(args, raw[j], magnitude_bits(raw[j]), place[j], scale);
    }
  }
  pad_rows(args, thread, gridDim.x * blockDim.x);
}

// A block that a thread keeps in shared memory, of `slot` others: no other thread reads it.
__device__ __forceinline__ Quad* stashed_quad(Quad* stash, int slot, int quad) {
  return stash + (slot * (WORDS / 4) + quad) * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ Raw from_stash(Quad* stash, int slot) {
  Raw raw;
#pragma unroll
  for (int q = 0; q < WORDS / 4; ++q) {
    const Quad quad = *stashed_quad(stash, slot, q);
    raw.word[4 * q] = quad.x, raw.word[4 * q + 1] = quad.y, raw.word[4 * q + 2] = quad.z, raw.word[4 * q + 3] = quad.w;
  }
  return raw;
}

__device__ __forceinline__ void to_stash(Quad* stash, int slot, const Raw& raw) {
#pragma unroll
  for (int q = 0; q < WORDS / 4; ++q) {
    *stashed_quad(stash, slot, q) = Quad{raw.word[4 * q], raw.word[4 * q + 1], raw.word[4 * q + 2], raw.word[4 * q + 3]};
  }
}

// The row of a group of threads: HOLD blocks of 16 a thread in registers, and of a longer row the rest read again.
template <class Source, int HOLD>
struct Row {
  const Args& args;
  Exchange& exchange;
  int blocks, group, lane, scale_step, mine;  // mine: blocks of this row, 0 past the last one
  Place start;
  Raw held[HOLD];
  uint32_t bits[HOLD];

  __device__ __forceinline__ Row(const Args& a, Exchange& e)
      : args(a), exchange(e), blocks(a.K / BLOCK), group(a.group), lane(threadIdx.x % a.group),
        scale_step(scale_of_column(a, a.group)) {}  // a group is a multiple of 4

  __device__ __forceinline__ void move_to(int r) {
    mine = r < args.M ? blocks : 0;  // threads past the last row go along
    start = down_to(args, column(args, lane), r < args.M ? r : 0);
  }
  __device__ __forceinline__ bool has(int h) const { return h * group + lane < mine; }
  __device__ __forceinline__ Place at(int h) const {
    return Place{start.x + h * group * (BLOCK * ELEMENT_BYTES), start.codes + h * group * 8, start.scale + h * scale_step,
                 start.r, lane + h * group};
  }

  __device__ __forceinline__ Scale scale() {
    uint32_t largest = 0;
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      bits[h] = has(h) ? magnitude_bits(held[h]) : 0u;
      largest = larger(largest, bits[h]);
    }
#pragma unroll 1
    for (int h = HOLD; has(h); ++h) largest = larger(largest, magnitude_bits(Source::load(args, at(h))));
    largest = group_max(largest, group, exchange);
    if (group_any(largest >= INFINITY_BITS, group <= WARP ? group : WARP, exchange)) {
      float amax = 0.0f;
#pragma unroll 1
      for (int h = 0; has(h); ++h) {
        const Raw raw = Source::load(args, at(h));
        amax = larger(amax, finite_amax(raw, magnitude_bits(raw)));
      }
      largest = group_max(bits_of(amax), group, exchange);
    }
    return scale_from_amax(float_of(largest));
  }

  __device__ __forceinline__ void finish(Scale scale) const {
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      if (has(h)) finish_block(args, held[h], bits[h], at(h), scale);
    }
#pragma unroll 1
    for (int h = HOLD; has(h); ++h) {
      const Raw raw = Source::load(args, at(h));
      finish_block(args, raw, magnitude_bits(raw), at(h), scale);
    }
    if (lane == 0 && mine > 0 && args.scale_out != nullptr) args.scale_out[start.r] = scale.value;
  }
};

// A run-time scale for each row.
template <class Source, int HOLD>
__device__ __forceinline__ void quantize_rows(const Args& args, uint32_t* shared) {
  Exchange exchange{shared, 0};
  Row<Source, HOLD> row(args, exchange);
  row.move_to(blockIdx.x * (blockDim.x / args.group) + threadIdx.x / args.group);
#pragma unroll
  for (int h = 0; h < HOLD; ++h) {
    if (row.has(h)) row.held[h] = Source::load(args, row.at(h));
  }
  row.finish(row.scale());
  pad_rows(args, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

// A run-time scale for the tensor, in one launch. Each thread walks its blocks forwards for the largest
// magnitude and, after the grid's barrier, backwards to quantize. Of its last blocks HOLD are still in
// registers and `args.stash` in shared memory; then come those that were read last, from the L2 cache.
template <class Source, int HOLD>
__device__ __forceinline__ void quantize_tensor(const Args& args, uint32_t* shared, Quad* stash) {
  constexpr int AHEAD = Source::UNROLL;
  const Walk walk(args);
  const int rounds = walk.rounds;
  const int first_held = rounds - HOLD, stashed = first_held > args.stash ? args.stash : larger_of(first_held, 0);
  const int reread = larger_of(first_held - stashed, 0);
  const uint32_t before = barriers_before(args);
  Exchange exchange{shared, 0};

  uint32_t largest = 0;
#pragma unroll 1
  for (int i = 0; i < reread; i += AHEAD) {
    Raw raw[AHEAD];
    bool mine[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      mine[j] = i + j < reread && walk.has(i + j);
      if (mine[j]) raw[j] = Source::load(args, walk.at(i + j));
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      if (mine[j]) largest = larger(largest, magnitude_bits(raw[j]));
    }
  }
#pragma unroll 1
  for (int s = 0; s < stashed; ++s) {
    if (!walk.has(reread + s)) continue;
    const Raw raw = Source::load(args, walk.at(reread + s));
    to_stash(stash, s, raw);
    largest = larger(largest, magnitude_bits(raw));
  }
  Raw held[HOLD];
  uint32_t bits[HOLD];
  bool mine[HOLD];
#pragma unroll
  for (int h = 0; h < HOLD; ++h) {
    mine[h] = first_held + h >= 0 && walk.has(first_held + h);
    if (mine[h]) held[h] = Source::load(args, walk.at(first_held + h));
  }
#pragma unroll
  for (int h = 0; h < HOLD; ++h) {
    bits[h] = mine[h] ? magnitude_bits(held[h]) : 0u;
    largest = larger(largest, bits[h]);
  }
  pad_rows(args, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);

  largest = grid_max(args, largest, before, exchange);
  if (largest >= INFINITY_BITS) {  // rare, and then slow: everything is looked at again
    float amax = 0.0f;
#pragma unroll 1
    for (int i = 0; i < rounds; ++i) {
      if (!walk.has(i)) continue;
      const Raw raw = Source::load(args, walk.at(i));
      amax = larger(amax, finite_amax(raw, magnitude_bits(raw)));
    }
    largest = grid_max_again(args, bits_of(amax), before + 1, exchange);
  }
  const Scale scale = scale_from_amax(float_of(largest));
  if (blockIdx.x == 0 && threadIdx.x == 0 && args.scale_out != nullptr) *args.scale_out = scale.value;

#pragma unroll
  for (int h = HOLD - 1; h >= 0; --h) {
    if (mine[h]) finish_block(args, held[h], bits[h], walk.at(first_held + h), scale);
  }
#pragma unroll 1
  for (int s = stashed - 1; s >= 0; --s) {
    if (!walk.has(reread + s)) continue;
    const Raw raw = from_stash(stash, s);
    finish_block(args, raw, magnitude_bits(raw), walk.at(reread + s), scale);
  }
  constexpr int BEHIND = Source::UNROLL > 2 ? 2 : 1;
#pragma unroll 1
  for (int i = reread - 1; i >= 0; i -= BEHIND) {
    Raw raw[BEHIND];
    bool present[BEHIND];
#pragma unroll
    for (int j = 0; j < BEHIND; ++j) {
      present[j] = i - j >= 0 && walk.has(i - j);
      if (present[j]) raw[j] = Source::load(args, walk.at(i - j));
    }
#pragma unroll
    for (int j = 0; j < BEHIND; ++j) {
      if (present[j]) finish_block(args, raw[j], magnitude_bits(raw[j]), walk.at(i - j), scale);
    }
  }
}

}  // namespace nvfp4
