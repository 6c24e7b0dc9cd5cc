// The parameter of every quantizing kernel. plugins/kernels/arguments.cuh has the same layout, and a test compares
// this one with the Python package's.
#pragma once

#include <cstdint>

namespace nvfp4 {

struct QuantizeArguments {
  const void *x, *other, *weight, *bias;
  const float* scale_in;
  void *values, *sum;
  void *codes, *scales;
  float* scale_out;
  void* fake;
  std::uint64_t state;  // a device address
  std::int32_t m, k, x_stride, other_stride;
  float epsilon, floor;
  std::int32_t layout, function, group, stash;
};
static_assert(sizeof(QuantizeArguments) == 136, "the kernels read 136 bytes");

}  // namespace nvfp4
