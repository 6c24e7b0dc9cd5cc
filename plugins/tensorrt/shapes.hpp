// Shapes, and the checks of the plugins' inputs that need no TensorRT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attributes.hpp"

namespace nvfp4 {

using Shape = std::vector<std::int64_t>;

constexpr int BLOCK = 16;             // elements that share a block scale
constexpr int SCALE_TILE_ROWS = 128;  // a tile of swizzled scales: 128 rows of 64 elements, one byte a block
constexpr int SCALE_TILE_COLUMNS = 64;
constexpr int SCALE_TILE_BYTES = 512;
constexpr int GEMM_K_STEP = 32;
constexpr int GEMM_N_STEP = 8;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

// Bytes of the swizzled block scales of [M, K].
constexpr std::int64_t scale_bytes(std::int64_t m, std::int64_t k) {
  return ceil_div(m, SCALE_TILE_ROWS) * ceil_div(k, SCALE_TILE_COLUMNS) * SCALE_TILE_BYTES;
}

std::string text_of(const Shape& shape);

struct QuantizeProblem {
  std::int64_t m, k;
};

struct GemmProblem {
  std::int64_t m, n, k;
  bool alpha_per_row, beta_per_column;
};

// Check the shapes of all inputs, in the node's order, and return what they say. Throw Error, naming the input.
QuantizeProblem check_quantize(const QuantizeAttributes& attributes, const std::vector<Shape>& inputs);
GemmProblem check_gemm(const GemmAttributes& attributes, const std::vector<Shape>& inputs);

}  // namespace nvfp4
