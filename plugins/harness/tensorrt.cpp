#include "tensorrt.hpp"

#include <dlfcn.h>

#include <cstring>

#include "report.hpp"

namespace harness {

namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::PluginFieldType;

std::size_t bytes_of(PluginFieldType type) {
  switch (type) {
    case PluginFieldType::kINT64:
    case PluginFieldType::kFLOAT64: return 8;
    case PluginFieldType::kINT32:
    case PluginFieldType::kFLOAT32: return 4;
    default: return 1;
  }
}

template <class Value>
std::vector<std::uint8_t> bytes_from(Value value) {
  std::vector<std::uint8_t> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

}  // namespace

std::int64_t volume(const Shape& shape) {
  std::int64_t product = 1;
  for (std::int64_t extent : shape) product *= extent;
  return product;
}

std::size_t size_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT: return 4;
    case DataType::kHALF:
    case DataType::kBF16: return 2;
    default: return 1;
  }
}

nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) dims.d[i] = shape[i];
  return dims;
}

nvinfer1::PluginTensorDesc desc_of(const Tensor& tensor) {
  return nvinfer1::PluginTensorDesc{dims_of(tensor.shape), tensor.type, nvinfer1::TensorFormat::kLINEAR, -1.0f};
}

nvinfer1::DynamicPluginTensorDesc dynamic_desc_of(const Tensor& tensor) {
  const nvinfer1::Dims dims = dims_of(tensor.shape);
  return nvinfer1::DynamicPluginTensorDesc{desc_of(tensor), dims, dims, dims};
}

void Log::log(Severity, const char* message) noexcept { messages_.emplace_back(message); }

std::vector<std::string> Log::take() {
  std::vector<std::string> messages;
  messages.swap(messages_);
  return messages;
}

nvinfer1::DimsExprs Evaluator::expressions_of(const Shape& shape) {
  nvinfer1::DimsExprs expressions{};
  expressions.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) expressions.d[i] = constant(shape[i]);
  return expressions;
}

Shape Evaluator::shape_of(const nvinfer1::DimsExprs& expressions) {
  Shape shape;
  for (std::int32_t i = 0; i < expressions.nbDims; ++i) shape.push_back(expressions.d[i]->getConstantValue());
  return shape;
}

const nvinfer1::IDimensionExpr* Evaluator::constant(std::int64_t value) { return &numbers_.emplace_back(value); }

const nvinfer1::IDimensionExpr* Evaluator::operation(DimensionOperation op, const nvinfer1::IDimensionExpr& first,
                                                     const nvinfer1::IDimensionExpr& second) {
  ++operations_;
  const std::int64_t a = first.getConstantValue(), b = second.getConstantValue();
  switch (op) {
    case DimensionOperation::kSUM: return constant(a + b);
    case DimensionOperation::kPROD: return constant(a * b);
    case DimensionOperation::kMAX: return constant(a > b ? a : b);
    case DimensionOperation::kMIN: return constant(a < b ? a : b);
    case DimensionOperation::kSUB: return constant(a - b);
    case DimensionOperation::kEQUAL: return constant(a == b ? 1 : 0);
    case DimensionOperation::kLESS: return constant(a < b ? 1 : 0);
    case DimensionOperation::kFLOOR_DIV: return b == 0 ? nullptr : constant(a / b);
    case DimensionOperation::kCEIL_DIV: return b == 0 ? nullptr : constant((a + b - 1) / b);
  }
  return nullptr;
}

const nvinfer1::IDimensionExpr* Evaluator::declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                             const nvinfer1::IDimensionExpr&) {
  return nullptr;  // no plugin here has an output whose shape depends on data
}

Fields& Fields::raw(const std::string& name, PluginFieldType type, const std::vector<std::uint8_t>& data,
                    std::int32_t length) {
  fields_.push_back(Field{name, type, data, length});
  return *this;
}

Fields& Fields::text(const std::string& name, const std::string& value, bool terminated) {
  std::vector<std::uint8_t> data(value.begin(), value.end());
  if (terminated) data.push_back(0);  // as the ONNX parser hands strings over
  return raw(name, PluginFieldType::kCHAR, data, static_cast<std::int32_t>(data.size()));
}

Fields& Fields::integer(const std::string& name, std::int32_t value) {
  return raw(name, PluginFieldType::kINT32, bytes_from(value), 1);
}

Fields& Fields::number(const std::string& name, float value) {
  return raw(name, PluginFieldType::kFLOAT32, bytes_from(value), 1);
}

Fields Fields::copied(const nvinfer1::PluginFieldCollection& collection) {
  Fields fields;
  for (std::int32_t i = 0; i < collection.nbFields; ++i) {
    const nvinfer1::PluginField& field = collection.fields[i];
    const auto* const data = static_cast<const std::uint8_t*>(field.data);
    const std::size_t bytes = static_cast<std::size_t>(field.length) * bytes_of(field.type);
    fields.raw(field.name, field.type, std::vector<std::uint8_t>(data, data + bytes), field.length);
  }
  return fields;
}

nvinfer1::PluginFieldCollection Fields::collection() const {
  views_.clear();
  for (const Field& field : fields_) {
    views_.emplace_back(field.name.c_str(), field.data.data(), field.type, field.length);
  }
  return nvinfer1::PluginFieldCollection{static_cast<std::int32_t>(views_.size()), views_.data()};
}

Library::Library(const std::string& path) {
  // Stays open: the plugins' code is in it until the process ends.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Failure(dlerror());
  using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(std::int32_t&);
  using SetLoggerFinder = void (*)(nvinfer1::ILoggerFinder*);
  const auto get_creators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
  const auto set_finder = reinterpret_cast<SetLoggerFinder>(dlsym(library, "setLoggerFinder"));
  if (get_creators == nullptr || set_finder == nullptr) throw Failure(path + " lacks getCreators or setLoggerFinder");
  set_finder(&log_);
  std::int32_t count = 0;
  nvinfer1::IPluginCreatorInterface* const* const found = get_creators(count);
  for (std::int32_t i = 0; i < count; ++i) {
    // TensorRT, too, goes by the kind that the creator names.
    if (std::strcmp(found[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") != 0) {
      throw Failure("a creator is not of the kind IPluginCreatorV3One");
    }
    creators_.push_back(static_cast<nvinfer1::IPluginCreatorV3One*>(found[i]));
  }
}

nvinfer1::IPluginCreatorV3One& Library::creator(const std::string& name) const {
  for (nvinfer1::IPluginCreatorV3One* creator : creators_) {
    if (name == creator->getPluginName()) return *creator;
  }
  throw Failure("there is no creator of " + name);
}

}  // namespace harness
