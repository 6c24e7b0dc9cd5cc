// What a node of each operator says of itself, checked, and the inputs and outputs that follow from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtype.hpp"

namespace nvfp4 {

enum class Scaling { TOKEN, TENSOR, STATIC, SINGLE };
enum class Function { NONE, LAYER_NORM, RMS_NORM, GELU, GELU_TANH, SILU, SILU_MUL, RELU };

const char* name_of(Scaling scaling);
const char* name_of(Function function);
Scaling scaling_named(const std::string& name);     // throws Error, listing the names
Function function_named(const std::string& name);  // throws Error, listing the names

struct QuantizeAttributes {
  Scaling scaling = Scaling::TOKEN;
  Function function = Function::NONE;
  float epsilon = 1e-5f;
  std::int32_t has_residual = 0, has_weight = 0, has_bias = 0, emit_values = 0, emit_sum = 0;

  bool is_norm() const { return function == Function::LAYER_NORM || function == Function::RMS_NORM; }
  // The name of the kernel that computes it, and the number that the kernel knows the function by.
  const char* kernel() const;
  std::int32_t kernel_function() const;
  std::vector<std::string> inputs() const;
  std::vector<std::string> outputs() const;
  void check() const;  // throws Error where no kernel computes what is asked for
};

struct GemmAttributes {
  std::int32_t dtype = 0;  // ONNX's number of the output's element type: 1, 10 or 16
  std::int32_t has_bias = 0;

  Dtype output_dtype() const;  // throws Error where `dtype` is none of the three
  std::vector<std::string> inputs() const;
  void check() const;
};

}  // namespace nvfp4
