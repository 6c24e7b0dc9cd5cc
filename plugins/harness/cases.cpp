#include "cases.hpp"

#include <cmath>

namespace harness {

namespace {

Bytes random_bytes(std::int64_t count, Random& random) {
  Bytes bytes(static_cast<std::size_t>(count));
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
  return bytes;
}

// Positive block scales about 1, some zero; the padding of the tiles stays zero.
Bytes random_scales(std::int64_t rows, std::int64_t columns, Random& random) {
  Bytes scales(static_cast<std::size_t>(swizzled_bytes(rows, columns)));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < columns / 16; ++k) {
      const unsigned byte = random.below(32) == 0 ? 0 : 0x28 + random.below(32);
      scales[static_cast<std::size_t>(swizzled_offset(r, k, columns))] = static_cast<std::uint8_t>(byte);
    }
  }
  return scales;
}

std::vector<float> random_positive(std::int64_t count, Random& random) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(0.01 + 0.1 * random.uniform()));
  return values;
}

}  // namespace

DataType data_type_of(Type type) {
  return type == Type::F16 ? DataType::kHALF : type == Type::BF16 ? DataType::kBF16 : DataType::kFLOAT;
}

const char* name_of(Mode mode) {
  constexpr const char* NAMES[] = {"token", "tensor", "static", "single"};
  return NAMES[static_cast<int>(mode)];
}

std::string text_of(const Shape& shape) {
  std::string text;
  for (std::int64_t extent : shape) text += (text.empty() ? "[" : ", ") + std::to_string(extent);
  return text + "]";
}

double Random::uniform() { return (engine_() + 0.5) / 4294967296.0; }

double Random::normal() {
  const double radius = std::sqrt(-2.0 * std::log(uniform()));
  return radius * std::cos(6.283185307179586 * uniform());
}

std::vector<float> Random::values(std::int64_t count, Type type, double spread) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>(normal() * spread * (below(40) == 0 ? 20.0 : 1.0)));
  }
  return decode(encode(values, type), type);
}

Fields QuantizeCase::fields() const {
  Fields fields;
  fields.text("scaling", name_of(mode)).text("function", function).number("epsilon", epsilon);
  fields.integer("has_residual", residual).integer("has_weight", weight).integer("has_bias", bias);
  fields.integer("emit_values", emit_values).integer("emit_sum", emit_sum);
  return fields;
}

std::vector<Tensor> QuantizeCase::inputs() const {
  const DataType data_type = data_type_of(type);
  std::vector<Tensor> inputs{Tensor{data_type, shape}};
  if (has_other()) inputs.push_back(Tensor{data_type, shape});
  if (weight) inputs.push_back(Tensor{data_type, {columns()}});
  if (bias) inputs.push_back(Tensor{data_type, {columns()}});
  if (mode == Mode::STATIC) inputs.push_back(Tensor{DataType::kFLOAT, {1}});
  return inputs;
}

std::string QuantizeCase::text() const {
  std::string text = std::string(name_of(mode)) + " " + harness::name_of(type) + " " + text_of(shape);
  if (function != "none") text += " " + function;
  if (residual) text += " +residual";
  if (weight) text += " +weight";
  if (bias) text += " +bias";
  return text;
}

QuantizeData::QuantizeData(const QuantizeCase& c, Random& random) : x(random.values(volume(c.shape), c.type)) {
  if (c.has_other()) other = random.values(volume(c.shape), c.type);
  if (c.weight) weight = random.values(c.columns(), c.type, 0.5);
  if (c.bias) bias = random.values(c.columns(), c.type, 0.1);
}

std::vector<Bytes> QuantizeData::bytes(const QuantizeCase& c) const {
  std::vector<Bytes> all{encode(x, c.type)};
  if (c.has_other()) all.push_back(encode(other, c.type));
  if (c.weight) all.push_back(encode(weight, c.type));
  if (c.bias) all.push_back(encode(bias, c.type));
  if (c.mode == Mode::STATIC) all.push_back(encode({STATIC_SCALE}, Type::F32));
  return all;
}

Fields GemmCase::fields() const {
  constexpr std::int32_t ONNX_TYPES[] = {10, 16, 1};  // of Type, in its order
  return Fields().integer("dtype", ONNX_TYPES[static_cast<int>(type)]).integer("has_bias", bias);
}

std::vector<Tensor> GemmCase::inputs() const {
  Shape a = lead, alpha = lead;
  a.push_back(k / 2);
  alpha.push_back(1);
  std::vector<Tensor> inputs{{DataType::kINT8, a},
                             {DataType::kINT8, {swizzled_bytes(rows(), k)}},
                             {DataType::kFLOAT, alpha_per_row ? alpha : Shape{1}},
                             {DataType::kINT8, {n, k / 2}},
                             {DataType::kINT8, {swizzled_bytes(n, k)}},
                             {DataType::kFLOAT, {beta_per_column ? n : 1}}};
  if (bias) inputs.push_back(Tensor{data_type_of(type), {n}});
  return inputs;
}

std::string GemmCase::text() const {
  return std::string(harness::name_of(type)) + " M" + text_of(lead) + " N " + std::to_string(n) + " K " +
         std::to_string(k) + (bias ? " +bias" : "") + (alpha_per_row ? " alpha[M]" : "") +
         (beta_per_column ? " beta[N]" : "");
}

GemmData::GemmData(const GemmCase& c, Random& random)
    : a(random_bytes(c.rows() * c.k / 2, random)),
      a_scales(random_scales(c.rows(), c.k, random)),
      b(random_bytes(c.n * c.k / 2, random)),
      b_scales(random_scales(c.n, c.k, random)),
      alpha(random_positive(c.alpha_per_row ? c.rows() : 1, random)),
      beta(random_positive(c.beta_per_column ? c.n : 1, random)) {
  if (c.bias) bias = random.values(c.n, c.type);
}

std::vector<Bytes> GemmData::bytes(const GemmCase& c) const {
  std::vector<Bytes> all{a, a_scales, encode(alpha, Type::F32), b, b_scales, encode(beta, Type::F32)};
  if (c.bias) all.push_back(encode(bias, c.type));
  return all;
}

}  // namespace harness
