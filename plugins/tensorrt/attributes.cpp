#include "attributes.hpp"

#include <cmath>

namespace nvfp4 {

namespace {

constexpr const char* SCALINGS[] = {"token", "tensor", "static", "single"};
constexpr const char* FUNCTIONS[] = {"none", "layer_norm", "rms_norm", "gelu", "gelu_tanh", "silu", "silu_mul", "relu"};

template <class Enum, std::size_t COUNT>
Enum named(const char* what, const char* const (&names)[COUNT], const std::string& name) {
  std::string all;
  for (std::size_t i = 0; i < COUNT; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
    all += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  throw Error(std::string(what) + " is '" + name + "', and may be " + all);
}

void check_flag(const char* name, std::int32_t value) {
  if (value != 0 && value != 1) throw Error(std::string(name) + " is " + std::to_string(value) + ", and may be 0 or 1");
}

void check_needs(const char* name, std::int32_t flag, bool met, const char* needs) {
  if (flag == 1 && !met) throw Error(std::string(name) + " = 1 needs " + needs);
}

}  // namespace

const char* name_of(Scaling scaling) { return SCALINGS[static_cast<int>(scaling)]; }
const char* name_of(Function function) { return FUNCTIONS[static_cast<int>(function)]; }
Scaling scaling_named(const std::string& name) { return named<Scaling>("scaling", SCALINGS, name); }
Function function_named(const std::string& name) { return named<Function>("function", FUNCTIONS, name); }

const char* QuantizeAttributes::kernel() const {
  if (function == Function::NONE) return "quantize";
  return is_norm() ? "norm_quantize" : "activation_quantize";
}

std::int32_t QuantizeAttributes::kernel_function() const {
  if (function == Function::NONE) return 0;
  const Function first = is_norm() ? Function::LAYER_NORM : Function::GELU;
  return static_cast<std::int32_t>(function) - static_cast<std::int32_t>(first);
}

std::vector<std::string> QuantizeAttributes::inputs() const {
  std::vector<std::string> names{"x"};
  if (function == Function::SILU_MUL || has_residual) names.emplace_back("other");
  if (has_weight) names.emplace_back("weight");
  if (has_bias) names.emplace_back("bias");
  if (scaling == Scaling::STATIC) names.emplace_back("scale");
  return names;
}

std::vector<std::string> QuantizeAttributes::outputs() const {
  std::vector<std::string> names{"codes", "scales", "alpha"};
  if (emit_values) names.emplace_back("values");
  if (emit_sum) names.emplace_back("sum");
  return names;
}

void QuantizeAttributes::check() const {
  if (!std::isfinite(epsilon) || epsilon < 0) throw Error("epsilon must be a finite number from 0");
  check_flag("has_residual", has_residual);
  check_flag("has_weight", has_weight);
  check_flag("has_bias", has_bias);
  check_flag("emit_values", emit_values);
  check_flag("emit_sum", emit_sum);
  check_needs("has_residual", has_residual, is_norm(), "the function layer_norm or rms_norm");
  check_needs("has_weight", has_weight, is_norm(), "the function layer_norm or rms_norm");
  check_needs("has_bias", has_bias, function == Function::LAYER_NORM, "the function layer_norm");
  check_needs("emit_values", emit_values, function != Function::NONE, "a function other than none");
  check_needs("emit_sum", emit_sum, has_residual == 1, "has_residual = 1");
}

Dtype GemmAttributes::output_dtype() const {
  switch (dtype) {
    case 1: return Dtype::F32;
    case 10: return Dtype::F16;
    case 16: return Dtype::BF16;
    default: throw Error("dtype is " + std::to_string(dtype) + ", and may be 1, 10 or 16 (float, float16, bfloat16)");
  }
}

std::vector<std::string> GemmAttributes::inputs() const {
  std::vector<std::string> names{"a", "a_scales", "alpha", "b", "b_scales", "beta"};
  if (has_bias) names.emplace_back("bias");
  return names;
}

void GemmAttributes::check() const {
  output_dtype();
  check_flag("has_bias", has_bias);
}

}  // namespace nvfp4
