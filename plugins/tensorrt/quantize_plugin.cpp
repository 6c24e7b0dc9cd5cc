#include "quantize_plugin.hpp"

#include <cstdio>
#include <cstring>

namespace nvfp4 {

namespace {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;
using nvinfer1::IDimensionExpr;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr std::int32_t SWIZZLED = 1;

std::string metadata_of(const QuantizeAttributes& a) {
  char epsilon[32];
  std::snprintf(epsilon, sizeof epsilon, "%.9g", static_cast<double>(a.epsilon));
  return std::string("{\"plugin\": \"") + QuantizePlugin::NAME + "\", \"scaling\": \"" + name_of(a.scaling) +
         "\", \"function\": \"" + name_of(a.function) + "\", \"epsilon\": " + epsilon +
         ", \"has_residual\": " + std::to_string(a.has_residual) +
         ", \"has_weight\": " + std::to_string(a.has_weight) + ", \"has_bias\": " + std::to_string(a.has_bias) +
         ", \"emit_values\": " + std::to_string(a.emit_values) + ", \"emit_sum\": " + std::to_string(a.emit_sum) +
         "}";
}

// Dimensions as expressions; a null result is TensorRT's refusal.
class Expressions {
 public:
  explicit Expressions(nvinfer1::IExprBuilder& builder) : builder_(builder) {}

  const IDimensionExpr* constant(std::int64_t value) const { return known(builder_.constant(value)); }
  const IDimensionExpr* product(const IDimensionExpr* a, const IDimensionExpr* b) const {
    return known(builder_.operation(DimensionOperation::kPROD, *a, *b));
  }
  const IDimensionExpr* divided(const IDimensionExpr* a, std::int64_t by) const {
    return known(builder_.operation(DimensionOperation::kFLOOR_DIV, *a, *constant(by)));
  }
  const IDimensionExpr* divided_up(const IDimensionExpr* a, std::int64_t by) const {
    return known(builder_.operation(DimensionOperation::kCEIL_DIV, *a, *constant(by)));
  }

 private:
  static const IDimensionExpr* known(const IDimensionExpr* expression) {
    if (expression == nullptr) throw Error("TensorRT returned no expression for a dimension");
    return expression;
  }

  nvinfer1::IExprBuilder& builder_;
};

nvinfer1::DimsExprs vector_of(const IDimensionExpr* extent) {
  nvinfer1::DimsExprs dims{};
  dims.nbDims = 1;
  dims.d[0] = extent;
  return dims;
}

nvinfer1::DimsExprs scales_shape(const Expressions& expressions, const nvinfer1::DimsExprs& x) {
  const IDimensionExpr* rows = expressions.constant(1);
  for (std::int32_t i = 0; i + 1 < x.nbDims; ++i) rows = expressions.product(rows, x.d[i]);
  const IDimensionExpr* tiles = expressions.product(expressions.divided_up(rows, SCALE_TILE_ROWS),
                                                    expressions.divided_up(x.d[x.nbDims - 1], SCALE_TILE_COLUMNS));
  return vector_of(expressions.product(tiles, expressions.constant(SCALE_TILE_BYTES)));
}

}  // namespace

nvinfer1::PluginFieldCollection QuantizePlugin::fields() {
  static const PluginField all[] = {
      PluginField("scaling", nullptr, PluginFieldType::kCHAR, 1),
      PluginField("function", nullptr, PluginFieldType::kCHAR, 1),
      PluginField("epsilon", nullptr, PluginFieldType::kFLOAT32, 1),
      PluginField("has_residual", nullptr, PluginFieldType::kINT32, 1),
      PluginField("has_weight", nullptr, PluginFieldType::kINT32, 1),
      PluginField("has_bias", nullptr, PluginFieldType::kINT32, 1),
      PluginField("emit_values", nullptr, PluginFieldType::kINT32, 1),
      PluginField("emit_sum", nullptr, PluginFieldType::kINT32, 1),
  };
  return nvinfer1::PluginFieldCollection{static_cast<std::int32_t>(std::size(all)), all};
}

QuantizePlugin* QuantizePlugin::create(FieldReader& reader, nvinfer1::TensorRTPhase) {
  const QuantizeAttributes attributes = read_quantize(reader);
  reader.finish();
  return new QuantizePlugin(attributes);
}

QuantizePlugin::QuantizePlugin(const QuantizeAttributes& attributes)
    : Plugin(NAME, metadata_of(attributes), attributes.inputs(), attributes.outputs()), attributes_(attributes) {}

std::unique_ptr<Plugin> QuantizePlugin::copy() const { return std::make_unique<QuantizePlugin>(attributes_); }

Types QuantizePlugin::types(DataType first) const {
  if (!is_float(first)) throw Error("x has data type " + std::to_string(static_cast<int>(first)) + ", no float type");
  Types all;
  for (const std::string& name : input_names()) all.push_back(name == "scale" ? DataType::kFLOAT : first);
  for (const std::string& name : output_names()) {
    const bool bytes = name == "codes" || name == "scales";
    all.push_back(bytes ? DataType::kINT8 : name == "alpha" ? DataType::kFLOAT : first);
  }
  return all;
}

void QuantizePlugin::shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                            nvinfer1::IExprBuilder& builder) const {
  const Expressions expressions(builder);
  const nvinfer1::DimsExprs& x = inputs[0];
  const std::int32_t last = x.nbDims - 1;
  if (x.d[last]->isConstant() && x.d[last]->getConstantValue() % BLOCK != 0) {
    throw Error("the last dimension of x is " + std::to_string(x.d[last]->getConstantValue()) +
                "; it must be a multiple of 16");
  }
  const IDimensionExpr* const one = expressions.constant(1);
  nvinfer1::DimsExprs* out = outputs;
  *out = x;
  out++->d[last] = expressions.divided(x.d[last], 2);
  *out++ = scales_shape(expressions, x);
  if (attributes_.scaling == Scaling::TOKEN) {
    *out = x;
    out++->d[last] = one;
  } else {
    *out++ = vector_of(one);
  }
  if (attributes_.emit_values) *out++ = x;
  if (attributes_.emit_sum) *out++ = x;
}

void QuantizePlugin::configure(const std::vector<Shape>& largest) { check_quantize(attributes_, largest); }

// Which dtype comes is known with the first shapes only, and nothing may be loaded while a graph is captured:
// so all are.
void QuantizePlugin::load(Device& device) const {
  for (Dtype dtype : {Dtype::F16, Dtype::BF16, Dtype::F32}) {
    device.module(find_cubin(embedded_pack(), attributes_.kernel(), dtype, device.sm()));
  }
  if (attributes_.scaling == Scaling::TENSOR) device.state();
}

void QuantizePlugin::plan(Device& device, const std::vector<Shape>& inputs, DataType first) {
  const QuantizeProblem problem = check_quantize(attributes_, inputs);
  arguments_ = QuantizeArguments{};
  arguments_.m = static_cast<std::int32_t>(problem.m);
  arguments_.k = arguments_.x_stride = arguments_.other_stride = static_cast<std::int32_t>(problem.k);
  if (problem.m == 0) return;
  const Dtype dtype = dtype_of(first);
  launch_ = quantize_launch(attributes_.kernel(), attributes_.scaling, dtype, problem.m, problem.k, device.limits());
  function_ = device.module(find_cubin(embedded_pack(), attributes_.kernel(), dtype, device.sm()))
                  .function(launch_.entry);
  arguments_.epsilon = attributes_.epsilon;
  arguments_.layout = SWIZZLED;
  arguments_.function = attributes_.kernel_function();
  arguments_.group = launch_.group;
  arguments_.stash = launch_.stash;
  if (attributes_.scaling == Scaling::TENSOR) arguments_.state = device.state().barrier();
}

void QuantizePlugin::run(Device&, const void* const* inputs, void* const* outputs, void*, CUstream stream) {
  if (arguments_.m == 0) return fill_empty(inputs, outputs, stream);
  QuantizeArguments arguments = arguments_;
  const void* const* in = inputs;
  arguments.x = *in++;
  if (attributes_.function == Function::SILU_MUL || attributes_.has_residual) arguments.other = *in++;
  if (attributes_.has_weight) arguments.weight = *in++;
  if (attributes_.has_bias) arguments.bias = *in++;
  if (attributes_.scaling == Scaling::STATIC) arguments.scale_in = static_cast<const float*>(*in++);
  void* const* out = outputs;
  arguments.codes = *out++;
  arguments.scales = *out++;
  arguments.scale_out = static_cast<float*>(*out++);
  if (attributes_.emit_values) arguments.values = *out++;
  if (attributes_.emit_sum) arguments.sum = *out++;
  void* parameters[] = {&arguments};
  launch(function_, launch_, parameters, stream);
}

// Of no rows there is nothing but the tensor's scale: the given one, or 1 as for a tensor of zeros.
void QuantizePlugin::fill_empty(const void* const* inputs, void* const* outputs, CUstream stream) const {
  if (attributes_.scaling == Scaling::TOKEN) return;
  const CUdeviceptr alpha = reinterpret_cast<CUdeviceptr>(outputs[2]);
  if (attributes_.scaling == Scaling::STATIC) {
    const CUdeviceptr scale = reinterpret_cast<CUdeviceptr>(inputs[input_names().size() - 1]);
    check(driver().copy_async(alpha, scale, sizeof(float), stream), "cuMemcpyDtoDAsync");
    return;
  }
  const float one = 1.0f;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &one, sizeof bits);
  check(driver().fill_words_async(alpha, bits, 1, stream), "cuMemsetD32Async");
}

}  // namespace nvfp4
