// Nodes and their data, as the checks make them: everything from a fixed seed.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "codec.hpp"
#include "tensorrt.hpp"

namespace harness {

using Bytes = std::vector<std::uint8_t>;

constexpr const char* QUANTIZE = "Nvfp4Quantize";
constexpr const char* GEMM = "Nvfp4Gemm";
constexpr Type TYPES[] = {Type::F16, Type::BF16, Type::F32};
constexpr Mode MODES[] = {Mode::TOKEN, Mode::TENSOR, Mode::STATIC, Mode::SINGLE};
constexpr float STATIC_SCALE = 0.0037f;

DataType data_type_of(Type type);
const char* name_of(Mode mode);
std::string text_of(const Shape& shape);

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  double uniform();  // in (0, 1)
  double normal();
  unsigned below(unsigned bound) { return engine_() % bound; }
  // Normal, one in forty of them twenty times as large; rounded to the type.
  std::vector<float> values(std::int64_t count, Type type, double spread = 1.0);

 private:
  std::mt19937 engine_;
};

struct QuantizeCase {
  Type type = Type::BF16;
  Mode mode = Mode::TOKEN;
  Shape shape;
  std::string function = "none";
  bool residual = false, weight = false, bias = false, emit_values = false, emit_sum = false;
  float epsilon = 1e-5f;

  std::int64_t columns() const { return shape.back(); }
  std::int64_t rows() const { return volume(shape) / shape.back(); }
  bool has_other() const { return residual || function == "silu_mul"; }
  Fields fields() const;
  std::vector<Tensor> inputs() const;
  std::string text() const;
};

// The numbers that a case's inputs hold; empty where it has no such input.
struct QuantizeData {
  std::vector<float> x, other, weight, bias;
  QuantizeData(const QuantizeCase& c, Random& random);
  std::vector<Bytes> bytes(const QuantizeCase& c) const;  // of all inputs, in order
};

struct GemmCase {
  Type type = Type::BF16;
  Shape lead;  // the dimensions before K
  std::int64_t n = 0, k = 0;
  bool bias = false, alpha_per_row = false, beta_per_column = false;

  std::int64_t rows() const { return volume(lead); }
  Fields fields() const;
  std::vector<Tensor> inputs() const;
  std::string text() const;
};

struct GemmData {
  Bytes a, a_scales, b, b_scales;
  std::vector<float> alpha, beta, bias;
  GemmData(const GemmCase& c, Random& random);
  std::vector<Bytes> bytes(const GemmCase& c) const;
};

}  // namespace harness
