// Runs the CUDA kernels on a CPU: every GPU thread is a fiber, and all blocks of a launch are alive at once.
//
// The kernels' sources are compiled as they are, with this header first. It stands in for the language
// (`threadIdx`, `__syncthreads`, warp operations) and for what `device.cuh` takes from the GPU, written again
// from the definition of each operation. Not for speed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define NVFP4_ON_CPU
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct Index {
  int x;
};

namespace nvfp4 {

struct Meeting {  // a barrier that is used again and again
  int expected = 0, arrived = 0, number = 0;
};

struct Warp {
  Meeting meeting;
  uint32_t lane[32] = {};
};

struct Block {
  Meeting meeting;
  std::vector<Warp> warps;
  std::vector<uint32_t> shared;
  int index = 0;
};

struct Fiber {
  ucontext_t first;  // how it begins; from then on `place` is where it goes on
  jmp_buf place;
  Block* block = nullptr;
  int thread = 0;
  bool begun = false, done = false;
};

inline Fiber* running = nullptr;
inline jmp_buf scheduler;
inline std::function<void()> kernel_body;
inline uint64_t events = 0;  // whatever another fiber may be waiting for

// Jumps rather than `swapcontext`, which asks the system for the signal mask at each switch.
inline void pause() {
  if (_setjmp(running->place) == 0) _longjmp(scheduler, 1);
}

inline void go_on(Fiber& fiber) {
  running = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.place, 1);
  fiber.begun = true;
  setcontext(&fiber.first);
}

inline void meet(Meeting& meeting) {
  const int number = meeting.number;
  ++events;
  if (++meeting.arrived == meeting.expected) {
    meeting.arrived = 0;
    ++meeting.number;
    return;
  }
  while (meeting.number == number) pause();
}

inline Warp& own_warp() { return running->block->warps[running->thread / 32]; }
inline uint32_t* shared_memory() { return running->block->shared.data(); }

}  // namespace nvfp4

#define threadIdx (Index{nvfp4::running->thread})
#define blockIdx (Index{nvfp4::running->block->index})

inline Index blockDim, gridDim;

inline void __syncthreads() { nvfp4::meet(nvfp4::running->block->meeting); }

namespace nvfp4 {

inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
inline float divide(float a, float b) { return a / b; }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline float fast_exponential(float x) { return std::exp(x); }
inline float fast_quotient(float a, float b) { return b > 8.507059173023462e37f ? 0.0f : a / b; }
inline float approximate_inverse(float x) { return float_of(bits_of(1.0f / x) + (bits_of(x) >> 20) % 2); }  // an ulp off at times
inline float in_unit(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float product_in_unit(float a, float b) { return in_unit(std::fabs(a) * b); }
inline float fused_in_unit(float a, float b, float c) { return in_unit(std::fma(std::fabs(a), b, c)); }
inline uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t which) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<uint32_t>(both >> 8 * (which >> 4 * i & 7) & 0xFF) << 8 * i;
  return result;
}

inline uint32_t e4m3_of(float x) {
  const uint32_t sign = bits_of(x) >> 31 << 7;
  const float magnitude = std::fabs(x);
  if (magnitude < 0.015625f) return sign | static_cast<uint32_t>(std::nearbyint(magnitude * 512.0f));
  if (magnitude >= 448.0f) return sign | 0x7Eu;
  const uint32_t bits = bits_of(magnitude), even = bits >> 20 & 1u;
  return sign | (((bits + 0x7FFFFu + even) >> 20) - (120u << 3));
}
inline float value_of_e4m3(uint32_t byte) {
  const int exponent = byte >> 3 & 0xF, mantissa = byte & 7;
  const float magnitude = exponent ? std::ldexp(8.0f + mantissa, exponent - 10) : std::ldexp(float(mantissa), -9);
  return byte & 0x80 ? -magnitude : magnitude;
}
inline float half_bits_to_float(uint16_t bits) {
  _Float16 half;
  std::memcpy(&half, &bits, 2);
  return static_cast<float>(half);
}

inline uint32_t narrow(float x) {
#if NVFP4_T == 0
  const _Float16 half = static_cast<_Float16>(x);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
#else
  if (x != x) return 0x7FFFu;
  const uint32_t bits = bits_of(x);
  return (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
#endif
}
inline uint32_t narrow_pair(float low, float high) { return narrow(low) | narrow(high) << 16; }
inline float widen(uint32_t bits) {
#if NVFP4_T == 0
  return half_bits_to_float(static_cast<uint16_t>(bits));
#else
  return float_of(bits << 16);
#endif
}
inline float widen_high(uint32_t pair) { return widen(pair >> 16); }
inline uint32_t larger_half(uint32_t a, uint32_t b) {  // magnitudes sort as their bits do, NaN above all
  const uint32_t first = a & 0x7FFFu, second = b & 0x7FFFu;
  return (first > second ? first : second) | ((a ^ b) & 0x8000u);
}
inline uint32_t larger_pair(uint32_t a, uint32_t b) {
  return larger_half(a & 0xFFFFu, b & 0xFFFFu) | larger_half(a >> 16, b >> 16) << 16;
}

#ifdef NVFP4_NATIVE_E2M1
inline uint32_t e2m1(float y) {
  const float magnitude = std::fabs(y);
  static const float values[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  uint32_t best = 7;  // NaN and what is too large
  for (uint32_t code = 0; code < 7; ++code) {
    const float middle = (values[code] + values[code + 1]) / 2.0f;
    if (magnitude < middle || (magnitude == middle && code % 2 == 0)) {
      best = code;
      break;
    }
  }
  return best | bits_of(y) >> 31 << 3;
}
inline uint32_t e2m1_pair(float low, float high) { return e2m1(low) | e2m1(high) << 4; }
#endif

struct alignas(16) Quad {
  uint32_t x, y, z, w;
};
inline Quad load_quad(const void* p) {
  Quad q;
  std::memcpy(&q, p, 16);
  return q;
}
inline void store_quad(void* p, Quad q) { std::memcpy(p, &q, 16); }
inline void store_codes(uint8_t* p, uint32_t low, uint32_t high) {
  std::memcpy(p, &low, 4);
  std::memcpy(p + 4, &high, 4);
}
inline void store_word(uint8_t* p, uint32_t word) { std::memcpy(p, &word, 4); }

inline uint64_t load_published(const uint64_t* p) {
  pause();
  return *p;
}
inline void store_published(uint64_t* p, uint64_t v) {
  ++events;
  *p = v;
}

inline uint32_t exchange(uint32_t value, const std::function<uint32_t(const uint32_t*, int)>& result) {
  Warp& warp = own_warp();
  const int lane = running->thread % 32;
  warp.lane[lane] = value;
  meet(warp.meeting);
  const uint32_t found = result(warp.lane, lane);
  meet(warp.meeting);
  return found;
}
inline uint32_t lane_xor(uint32_t value, int mask) {
  return exchange(value, [mask](const uint32_t* lanes, int lane) { return lanes[lane ^ mask]; });
}
inline float lane_xor(float value, int mask) { return float_of(lane_xor(bits_of(value), mask)); }
inline uint32_t warp_max(uint32_t value) {
  return exchange(value, [](const uint32_t* lanes, int) {
    uint32_t most = 0;
    for (int i = 0; i < 32; ++i) most = lanes[i] > most ? lanes[i] : most;
    return most;
  });
}
inline bool warp_any(bool value) { return warp_max(value) != 0; }

inline void enter() {
  kernel_body();
  running->done = true;
  ++events;
  pause();
}

enum Status { FINISHED, DEADLOCK, SHARED_OVERRUN };

constexpr uint32_t UNTOUCHED = 0xDEADBEEFu;       // what shared memory holds at first
constexpr size_t SHARED_GUARD = 64 * 1024 / 4;    // words behind it: more than a slot of any kernel's stash
constexpr int QUIET_ROUNDS = 1000;                // more turns than a thread can take without an event, if it gets on

// Which fibers run next: all in turn (seed 0), or, so that blocks overtake each other, half of the blocks and
// three quarters of their threads.
class Order {
 public:
  explicit Order(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u) {}
  bool skips(uint64_t of_four) { return state_ != 0 && next() % 4 < of_four; }

 private:
  uint64_t next() {  // xorshift64
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ >> 32;
  }
  uint64_t state_;
};

constexpr size_t STACK = 32 * 1024;
inline std::vector<std::unique_ptr<char[]>> stacks;  // kept for the next launch

inline void prepare(Fiber& fiber, Block& block, int thread, char* stack) {
  fiber.block = &block, fiber.thread = thread;
  getcontext(&fiber.first);
  fiber.first.uc_stack.ss_sp = stack;
  fiber.first.uc_stack.ss_size = STACK;
  fiber.first.uc_link = nullptr;
  makecontext(&fiber.first, enter, 0);
}

// One round over the fibers; returns how many ended in it.
inline size_t take_turns(std::vector<Fiber>& fibers, size_t threads, Order& order) {
  size_t ended = 0;
  for (size_t first = 0; first < fibers.size(); first += threads) {
    if (order.skips(2)) continue;
    for (size_t i = first; i < first + threads; ++i) {
      if (fibers[i].done || order.skips(1)) continue;
      go_on(fibers[i]);
      ended += fibers[i].done;
    }
  }
  return ended;
}

// Runs `body` once for each thread of each block until all are done. Threads wait for events alone, so that
// when there are none for long there will be none: a deadlock, and the launch is given up.
inline Status launch(int grid, int threads, int shared_bytes, uint64_t seed, std::function<void()> body) {
  kernel_body = std::move(body);
  blockDim = {threads}, gridDim = {grid};
  std::vector<Block> blocks(grid);
  std::vector<Fiber> fibers(static_cast<size_t>(grid) * threads);
  while (stacks.size() < fibers.size()) stacks.emplace_back(new char[STACK]);
  for (int b = 0; b < grid; ++b) {
    blocks[b].index = b;
    blocks[b].meeting.expected = threads;
    blocks[b].warps.resize(threads / 32);
    for (Warp& warp : blocks[b].warps) warp.meeting.expected = 32;
    blocks[b].shared.assign(shared_bytes / 4 + SHARED_GUARD, UNTOUCHED);
    for (int t = 0; t < threads; ++t) {
      const size_t i = static_cast<size_t>(b) * threads + t;
      prepare(fibers[i], blocks[b], t, stacks[i].get());
    }
  }
  Order order(seed);
  int quiet = 0;
  for (size_t left = fibers.size(); left > 0;) {
    const uint64_t before = events;
    left -= take_turns(fibers, threads, order);
    quiet = events == before ? quiet + 1 : 0;
    if (quiet > QUIET_ROUNDS) return DEADLOCK;
  }
  for (const Block& block : blocks) {
    for (size_t i = shared_bytes / 4; i < block.shared.size(); ++i) {
      if (block.shared[i] != UNTOUCHED) return SHARED_OVERRUN;
    }
  }
  return FINISHED;
}

}  // namespace nvfp4
