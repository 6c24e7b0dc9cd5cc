// Reductions over the threads that share a row, over a block, and over a grid.
#pragma once

#include "arguments.cuh"

namespace nvfp4 {

constexpr int WARP = 32;
constexpr int REDUCTION_WORDS = 2 * WARP;  // of shared memory

// Successive reductions of a block take turns with two buffers, so that each needs one barrier.
struct Exchange {
  uint32_t* buffer;  // REDUCTION_WORDS of shared memory
  int turn;
  __device__ __forceinline__ uint32_t* next() {
    turn ^= 1;
    return buffer + turn * WARP;
  }
};

// `group` is a power of two up to 32 (then its threads are neighbours in a warp) or the whole block, of whole warps.
__device__ __forceinline__ uint32_t group_max(uint32_t value, int group, Exchange& exchange) {
  if (group < WARP) {
    for (int mask = group / 2; mask > 0; mask /= 2) value = larger(value, lane_xor(value, mask));
    return value;
  }
  value = warp_max(value);
  if (group == WARP) return value;
  uint32_t* shared = exchange.next();
  const int lane = threadIdx.x % WARP;
  if (lane == 0) shared[threadIdx.x / WARP] = value;
  __syncthreads();
  return warp_max(lane < group / WARP ? shared[lane] : 0u);
}

// The order of the additions depends on the launch alone, so that results repeat.
__device__ __forceinline__ float group_sum(float value, int group, Exchange& exchange) {
  for (int mask = (group < WARP ? group : WARP) / 2; mask > 0; mask /= 2) value += lane_xor(value, mask);
  if (group <= WARP) return value;
  uint32_t* shared = exchange.next();
  const int lane = threadIdx.x % WARP;
  if (lane == 0) shared[threadIdx.x / WARP] = bits_of(value);
  __syncthreads();
  value = lane < group / WARP ? float_of(shared[lane]) : 0.0f;
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += lane_xor(value, mask);
  return value;
}

// Whether any thread of those that take part in one reduction's steps says so.
__device__ __forceinline__ bool group_any(bool value, int group, Exchange& exchange) {
  if (group <= WARP) return warp_any(value);
  return group_max(value ? 1u : 0u, group, exchange) != 0;
}

// The barrier's memory, in words of 64 bits: how many barriers there have been; from FIRST_SLOT a slot for each
// block; from FIRST_MAILBOX a row of slots for each block. A grid with a barrier has at most MAILBOXES blocks.
constexpr int FIRST_SLOT = 8, FIRST_MAILBOX = 8192, MAILBOXES = 192;

__device__ __forceinline__ uint32_t barriers_before(const Args& args) {
  return gridDim.x == 1 ? 0 : static_cast<uint32_t>(load_published(args.state));
}

// The largest `bits` of all threads of the grid, all of whose blocks must run at once (a cooperative launch).
//
// Every block publishes its own, with the number of this barrier, and looks at everybody else's: one store and
// one load deep, and nothing to reset afterwards. A block that POSTS writes to a row of each of the others, so
// that no two wait on the same memory, which is slow; else all look at the same slots.
template <bool POSTS>
__device__ __forceinline__ uint32_t exchange_largest(const Args& args, uint32_t bits, uint32_t before, Exchange& exchange) {
  bits = group_max(bits, blockDim.x, exchange);
  if (gridDim.x == 1) return bits;
  const uint32_t number = before + 1;
  const uint64_t own = static_cast<uint64_t>(number) << 32 | bits;
  uint64_t* slots = args.state + (POSTS ? FIRST_MAILBOX + blockIdx.x * MAILBOXES : FIRST_SLOT);
  if (POSTS) {
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
      store_published(args.state + FIRST_MAILBOX + i * MAILBOXES + blockIdx.x, own);
    }
  } else if (threadIdx.x == 0) {
    store_published(slots + blockIdx.x, own);
  }
  for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
    uint64_t published;
    do {
      published = load_published(slots + i);
    } while (static_cast<uint32_t>(published >> 32) != number);
    bits = larger(bits, static_cast<uint32_t>(published));
  }
  bits = group_max(bits, blockDim.x, exchange);
  // Whoever published has read the number before, so it may change now.
  if (blockIdx.x == 0 && threadIdx.x == 0) store_published(args.state, number);
  return bits;
}

__device__ __forceinline__ uint32_t grid_max(const Args& args, uint32_t bits, uint32_t before, Exchange& exchange) {
  return exchange_largest<true>(args, bits, before, exchange);
}

// The second time in a launch, in other memory: a block may be here while another is still in the first.
__device__ __forceinline__ uint32_t grid_max_again(const Args& args, uint32_t bits, uint32_t before, Exchange& exchange) {
  return exchange_largest<false>(args, bits, before, exchange);
}

}  // namespace nvfp4
