// The one parameter of every kernel here, and writing a block's results.
#pragma once

#include "codec.cuh"

namespace nvfp4 {

struct Args {
  const uint8_t* x;       // [M, K] of T, rows `x_stride` elements apart
  const uint8_t* other;   // silu_mul: the factor; norm: the residual added to x first; or null
  const uint8_t* weight;  // norm: [K] of T, or null
  const uint8_t* bias;    // layer norm: [K] of T, or null
  const float* scale_in;  // static: fp32 [1]
  uint8_t* values;        // out [M, K] of T, what is quantized; or null
  uint8_t* sum;           // out [M, K] of T, x + other before a norm; or null
  uint8_t* codes;         // out [M, K/2]; null where only `fake` is wanted
  uint8_t* scales;        // out, e4m3 bytes in `layout`; null with codes
  float* scale_out;       // out fp32 [1] or [M]; or null
  uint8_t* fake;          // out [M, K] of T, dequantized; or null
  uint64_t* state;        // memory of the grid's barrier
  int32_t M, K;
  int32_t x_stride, other_stride;  // in elements
  float epsilon;
  float floor;            // smallest block scale before it is rounded
  int32_t layout;         // 0 row-major, 1 tiles
  int32_t function;
  int32_t group;          // threads that share a row: a power of two up to 32, or all of a block's
  int32_t stash;          // blocks that each thread keeps in shared memory
};

// Blocks of 16 that a thread keeps in registers of a long row.
constexpr int LONG_HOLD = NVFP4_T == 2 ? 2 : 4;

__device__ __forceinline__ const uint8_t* block_of(const uint8_t* x, int64_t r, int k, int32_t stride) {
  return x + (r * stride + static_cast<int64_t>(k) * BLOCK) * ELEMENT_BYTES;
}
__device__ __forceinline__ uint8_t* block_of(uint8_t* x, int64_t r, int k, int32_t stride) {
  return x + (r * stride + static_cast<int64_t>(k) * BLOCK) * ELEMENT_BYTES;
}

// Where block k of row r lies. Every address is a sum of what depends on r and what depends on k, so that a walk
// along a row or down a column adds constants.
struct Place {
  const uint8_t* x;
  uint8_t* codes;
  uint8_t* scale;
  int r, k;
};

__device__ __forceinline__ int64_t scale_of_row(const Args& args, int r) {
  const int blocks = args.K / BLOCK;
  if (args.layout == 0) return static_cast<int64_t>(r) * blocks;
  // Tiles of 128 rows by 4 blocks; in a tile, 16 bytes for each of 32 rows, and in those 4 for each 32 rows further.
  return static_cast<int64_t>(r >> 7) * ((blocks + 3) / 4 * 512) + ((r & 31) << 4 | (r >> 3 & 12));
}

// How far the scale of block k lies from that of block 0.
__device__ __forceinline__ int scale_of_column(const Args& args, int k) {
  return args.layout == 0 ? k : (k >> 2) * 512 + (k & 3);
}

__device__ __forceinline__ Place down_to(const Args& args, const Place& top, int r) {
  return Place{top.x + static_cast<int64_t>(r) * (args.x_stride * ELEMENT_BYTES),
               top.codes + static_cast<int64_t>(r) * (args.K / 2), top.scale + scale_of_row(args, r), r, top.k};
}

// Block k of row 0.
__device__ __forceinline__ Place column(const Args& args, int k) {
  return Place{args.x + static_cast<int64_t>(k) * (BLOCK * ELEMENT_BYTES), args.codes + static_cast<int64_t>(k) * 8,
               args.scales + scale_of_column(args, k), 0, k};
}

// Zeros after the last block scale of a row whose number of blocks is no multiple of 4.
__device__ __forceinline__ void pad_column(const Args& args, const Place& place) {
  const int blocks = args.K / BLOCK;
  if (args.layout == 0 || blocks % 4 == 0 || place.k != blocks - 1) return;
  for (int pad = 1; (place.k + pad) % 4 != 0; ++pad) place.scale[pad] = 0;
}

// Quantizes one block, given its `magnitude_bits`, and writes what is asked for.
__device__ __forceinline__ void finish_block(const Args& args, const Raw& raw, uint32_t bits, const Place& place,
                                             Scale scale) {
  const Coded coded = encode(raw, bits, scale, args.floor);
  if (args.fake != nullptr) {
    store_block(block_of(args.fake, place.r, place.k, args.K), decode(coded, scale.value));
    if (args.codes == nullptr) return;
  }
  store_codes(place.codes, coded.low, coded.high);
  *place.scale = static_cast<uint8_t>(coded.scale);
  pad_column(args, place);
}

// Writes zeros for the rows that the last tiles have and the matrix has not. Sixteen bytes of a tile hold four
// block scales of each of four rows, 32 rows apart.
__device__ __forceinline__ void pad_rows(const Args& args, int thread, int threads) {
  const int rows = args.M % 128;
  if (args.layout == 0 || args.codes == nullptr || rows == 0) return;
  const int across = (args.K / BLOCK + 3) / 4;
  uint8_t* last = args.scales + static_cast<int64_t>(args.M / 128) * across * 512;
  for (int i = thread; i < across * 32; i += threads) {
    const int r = i % 32;
    uint8_t* place = last + static_cast<int64_t>(i) * 16;
    if (r >= rows) {
      store_quad(place, Quad{0, 0, 0, 0});
      continue;
    }
#pragma unroll
    for (int j = 1; j < 4; ++j) {
      if (r + 32 * j >= rows) store_word(place + 4 * j, 0);
    }
  }
}

}  // namespace nvfp4
