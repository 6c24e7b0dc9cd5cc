// LayerNorm or RMSNorm, of x or of x plus a residual, and the quantization of its result.
#include "entries.cuh"

namespace {

using namespace nvfp4;

enum Function { LAYER_NORM, RMS_NORM };

struct Moments {
  float mean, inverse;  // the mean that is subtracted, and 1 / sqrt(variance + epsilon)
};

// Block k of what is normalized. The sum with the residual is rounded to the dtype, as an addition before would.
__device__ __forceinline__ Raw load_summand(const Args& args, int r, int k, bool write) {
  Raw raw = load_block(block_of(args.x, r, k, args.x_stride));
  if (args.other == nullptr) return raw;
  float value[BLOCK], residual[BLOCK];
  widen_block(raw, value);
  widen_block(load_block(block_of(args.other, r, k, args.other_stride)), residual);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) value[i] += residual[i];
  raw = narrow_block(value);
  if (write && args.sum != nullptr) store_block(block_of(args.sum, r, k, args.K), raw);
  return raw;
}

__device__ __forceinline__ float sum_of(const Raw& raw) {
  float value[BLOCK], sum = 0.0f;
  widen_block(raw, value);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) sum += value[i];
  return sum;
}

__device__ __forceinline__ float squares_of(const Raw& raw, float mean) {
  float value[BLOCK], sum = 0.0f;
  widen_block(raw, value);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) sum = fused(value[i] - mean, value[i] - mean, sum);
  return sum;
}

__device__ __forceinline__ Raw normalized(const Args& args, const Raw& raw, int r, int k, Moments moments, bool write) {
  float value[BLOCK], parameter[BLOCK];
  widen_block(raw, value);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) value[i] = (value[i] - moments.mean) * moments.inverse;
  if (args.weight != nullptr) {
    widen_block(load_block(block_of(args.weight, 0, k, 0)), parameter);
#pragma unroll
    for (int i = 0; i < BLOCK; ++i) value[i] *= parameter[i];
  }
  if (args.bias != nullptr) {
    widen_block(load_block(block_of(args.bias, 0, k, 0)), parameter);
#pragma unroll
    for (int i = 0; i < BLOCK; ++i) value[i] += parameter[i];
  }
  const Raw result = narrow_block(value);
  if (write && args.values != nullptr) store_block(block_of(args.values, r, k, args.K), result);
  return result;
}

// A row, HOLD blocks of each thread in registers. What a longer row has more is read and computed again.
template <int HOLD>
struct NormRow {
  const Args& args;
  Exchange& exchange;
  int r, lane, group, blocks;  // blocks: 0 past the last row
  Moments moments;
  Raw held[HOLD];
  uint32_t bits[HOLD];

  __device__ __forceinline__ NormRow(const Args& a, Exchange& e) : args(a), exchange(e), group(a.group) {
    lane = threadIdx.x % group;
  }

  __device__ __forceinline__ bool has(int h) const { return h * group + lane < blocks; }
  __device__ __forceinline__ int rest() const { return HOLD * group + lane; }

  // Loads row `row`, normalizes it, and leaves the result in `held`, its magnitudes in `bits`.
  __device__ __forceinline__ void load(int row, bool write) {
    r = row, blocks = row < args.M ? args.K / BLOCK : 0;
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      if (has(h)) held[h] = load_summand(args, r, h * group + lane, write);
    }
    moments.mean = 0.0f;
    if (args.function == LAYER_NORM) {
      float sum = 0.0f;
#pragma unroll
      for (int h = 0; h < HOLD; ++h) sum += has(h) ? sum_of(held[h]) : 0.0f;
      for (int k = rest(); k < blocks; k += group) sum += sum_of(load_summand(args, r, k, false));
      moments.mean = divide(group_sum(sum, group, exchange), static_cast<float>(args.K));
    }
    float squares = 0.0f;
#pragma unroll
    for (int h = 0; h < HOLD; ++h) squares += has(h) ? squares_of(held[h], moments.mean) : 0.0f;
    for (int k = rest(); k < blocks; k += group) squares += squares_of(load_summand(args, r, k, false), moments.mean);
    const float variance = divide(group_sum(squares, group, exchange), static_cast<float>(args.K));
    moments.inverse = divide(1.0f, sqrtf(variance + args.epsilon));
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      if (has(h)) held[h] = normalized(args, held[h], r, h * group + lane, moments, write);
      bits[h] = has(h) ? magnitude_bits(held[h]) : 0u;
    }
  }

  __device__ __forceinline__ Raw again(int k, bool write) const {
    return normalized(args, load_summand(args, r, k, write), r, k, moments, write);
  }

  // The bits of this thread's largest magnitude; `finite`: of those that are numbers.
  __device__ __forceinline__ uint32_t largest(bool finite) const {
    uint32_t most = 0;
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      if (has(h)) most = larger(most, finite ? bits_of(finite_amax(held[h], bits[h])) : bits[h]);
    }
    for (int k = rest(); k < blocks; k += group) {
      const Raw raw = again(k, false);
      const uint32_t found = magnitude_bits(raw);
      most = larger(most, finite ? bits_of(finite_amax(raw, found)) : found);
    }
    return most;
  }

  __device__ __forceinline__ void finish(Scale scale, bool write) const {
#pragma unroll
    for (int h = 0; h < HOLD; ++h) {
      if (has(h)) finish_block(args, held[h], bits[h], down_to(args, column(args, h * group + lane), r), scale);
    }
    for (int k = rest(); k < blocks; k += group) {
      const Raw raw = again(k, write);
      finish_block(args, raw, magnitude_bits(raw), down_to(args, column(args, k), r), scale);
    }
  }
};

template <int HOLD>
__device__ __forceinline__ void normalize_with_known_scale(const Args& args, uint32_t* shared, Scale scale) {
  Exchange exchange{shared, 0};
  NormRow<HOLD> row(args, exchange);
  if (blockIdx.x == 0 && threadIdx.x == 0 && args.scale_out != nullptr) *args.scale_out = scale.value;
  row.load(blockIdx.x * (blockDim.x / args.group) + threadIdx.x / args.group, true);
  row.finish(scale, true);
  pad_rows(args, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

template <int HOLD>
__device__ __forceinline__ void normalize_rows(const Args& args, uint32_t* shared) {
  Exchange exchange{shared, 0};
  NormRow<HOLD> row(args, exchange);
  row.load(blockIdx.x * (blockDim.x / args.group) + threadIdx.x / args.group, true);
  uint32_t largest = group_max(row.largest(false), args.group, exchange);
  if (group_any(largest >= INFINITY_BITS, args.group <= WARP ? args.group : WARP, exchange)) {
    largest = group_max(row.largest(true), args.group, exchange);
  }
  const Scale scale = scale_from_amax(float_of(largest));
  row.finish(scale, true);
  if (row.lane == 0 && row.r < args.M && args.scale_out != nullptr) args.scale_out[row.r] = scale.value;
  pad_rows(args, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}

// A run-time scale for the tensor. The grid's rows are walked forwards for the largest magnitude, and
// backwards, from the row that is still in registers, to quantize; the others are computed again.
template <int HOLD>
__device__ __forceinline__ void normalize_tensor(const Args& args, uint32_t* shared) {
  const int at_once = blockDim.x / args.group, step = gridDim.x * at_once;
  const int first = blockIdx.x * at_once, mine = threadIdx.x / args.group;
  const int rounds = (args.M + step - 1) / step;
  const uint32_t before = barriers_before(args);
  Exchange exchange{shared, 0};
  NormRow<HOLD> row(args, exchange);

  uint32_t largest = 0;
  for (int i = 0; i < rounds; ++i) {
    row.load(first + i * step + mine, true);
    largest = larger(largest, row.largest(false));
  }
  pad_rows(args, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
  largest = grid_max(args, largest, before, exchange);
  if (largest >= INFINITY_BITS) {  // rare, and then slow
    largest = 0;
    for (int i = 0; i < rounds; ++i) {
      row.load(first + i * step + mine, false);
      largest = larger(largest, row.largest(true));
    }
    largest = grid_max_again(args, largest, before + 1, exchange);
  }
  const Scale scale = scale_from_amax(float_of(largest));
  if (blockIdx.x == 0 && threadIdx.x == 0 && args.scale_out != nullptr) *args.scale_out = scale.value;
  row.finish(scale, true);
  for (int i = rounds - 2; i >= 0; --i) {
    row.load(first + i * step + mine, false);
    row.finish(scale, true);
  }
}

}  // namespace

#define NVFP4_NORMS(LENGTH, HOLD, THREADS, RESIDENT)                                                            \
  NVFP4_ENTRY(token_##LENGTH, THREADS, RESIDENT, normalize_rows<HOLD>(args, dynamic))                           \
  NVFP4_ENTRY(tensor_##LENGTH, THREADS, 1, normalize_tensor<HOLD>(args, dynamic))                               \
  NVFP4_ENTRY(static_##LENGTH, THREADS, RESIDENT,                                                               \
              normalize_with_known_scale<HOLD>(args, dynamic, nvfp4::scale_from(*args.scale_in)))               \
  NVFP4_ENTRY(single_##LENGTH, THREADS, RESIDENT,                                                               \
              normalize_with_known_scale<HOLD>(args, dynamic, nvfp4::Scale{1.0f, 1.0f}))

NVFP4_NORMS(short, 1, 512, 1)
NVFP4_NORMS(long, LONG_HOLD, 256, 2)
