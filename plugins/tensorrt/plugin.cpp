#include "plugin.hpp"

#include <cstdint>
#include <utility>

#include "log.hpp"

namespace nvfp4 {

namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr std::int32_t FAILED = 1;

// The kernels read and write 16 bytes at once, but for scales that they read one by one.
std::uintptr_t alignment_of(const std::string& name) {
  return name == "alpha" || name == "beta" || name == "scale" ? alignof(float) : 16;
}

Shape shape_of(const Dims& dims) {
  if (dims.nbDims < 0 || dims.nbDims > Dims::MAX_DIMS) throw Error("a tensor has no valid rank");
  return Shape(dims.d, dims.d + dims.nbDims);
}

void check_aligned(const std::string& name, const void* pointer, const Dims& dims) {
  for (std::int32_t i = 0; i < dims.nbDims; ++i) {
    if (dims.d[i] == 0) return;  // an empty tensor may lie nowhere
  }
  if (pointer == nullptr) throw Error(name + " is a null pointer");
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment_of(name) != 0) {
    throw Error(name + " is not aligned to " + std::to_string(alignment_of(name)) + " bytes");
  }
}

}  // namespace

bool operator==(const Dims& a, const Dims& b) {
  if (a.nbDims != b.nbDims) return false;
  for (std::int32_t i = 0; i < a.nbDims; ++i) {
    if (a.d[i] != b.d[i]) return false;
  }
  return true;
}

bool is_float(DataType type) {
  return type == DataType::kHALF || type == DataType::kBF16 || type == DataType::kFLOAT;
}

Dtype dtype_of(DataType type) {
  switch (type) {
    case DataType::kHALF: return Dtype::F16;
    case DataType::kBF16: return Dtype::BF16;
    case DataType::kFLOAT: return Dtype::F32;
    default: throw Error("there is no kernel for data type " + std::to_string(static_cast<int>(type)));
  }
}

Plugin::Plugin(const char* name, std::string metadata, std::vector<std::string> inputs,
               std::vector<std::string> outputs)
    : name_(name),
      input_names_(std::move(inputs)),
      output_names_(std::move(outputs)),
      metadata_(std::move(metadata)),
      timing_id_(metadata_ + " " + embedded_pack().digest) {}

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* Plugin::clone() noexcept {
  return guarded<nvinfer1::IPluginV3*>(name_, nullptr, [&] { return copy().release(); });
}

nvinfer1::IPluginV3* Plugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded<nvinfer1::IPluginV3*>(name_, nullptr, [&] {
    std::unique_ptr<Plugin> attached = copy();
    attached->device_ = std::make_unique<Device>();
    attached->load(*attached->device_);
    return attached.release();
  });
}

std::int32_t Plugin::getNbOutputs() const noexcept { return static_cast<std::int32_t>(output_names_.size()); }

void Plugin::check_counts(std::int32_t inputs, std::int32_t outputs) const {
  const auto check = [](const char* what, std::int32_t found, std::size_t wanted) {
    if (found < 0 || static_cast<std::size_t>(found) == wanted) return;
    throw Error("there are " + std::to_string(found) + " " + what + "; by the attributes there are " +
                std::to_string(wanted));
  };
  check("inputs", inputs, input_names_.size());
  check("outputs", outputs, output_names_.size());
}

std::int32_t Plugin::getOutputDataTypes(DataType* output_types, std::int32_t output_count,
                                        const DataType* input_types, std::int32_t input_count) const noexcept {
  return guarded(name_, FAILED, [&]() -> std::int32_t {
    check_counts(input_count, output_count);
    const Types wanted = types(input_types[0]);
    for (std::size_t i = 0; i < input_names_.size(); ++i) {
      if (input_types[i] != wanted[i]) {
        throw Error(input_names_[i] + " has data type " + std::to_string(static_cast<int>(input_types[i])) +
                    "; it must be " + std::to_string(static_cast<int>(wanted[i])));
      }
    }
    for (std::size_t i = 0; i < output_names_.size(); ++i) output_types[i] = wanted[input_names_.size() + i];
    return 0;
  });
}

std::int32_t Plugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                                     const nvinfer1::DimsExprs*, std::int32_t shape_input_count,
                                     nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                                     nvinfer1::IExprBuilder& builder) noexcept {
  return guarded(name_, FAILED, [&]() -> std::int32_t {
    check_counts(input_count, output_count);
    if (shape_input_count != 0) throw Error("no input is a shape tensor");
    for (std::int32_t i = 0; i < input_count; ++i) {
      if (inputs[i].nbDims < 1 || inputs[i].nbDims > Dims::MAX_DIMS) {
        throw Error(input_names_[static_cast<std::size_t>(i)] + " has no dimensions");
      }
    }
    shapes(inputs, outputs, builder);
    return 0;
  });
}

// No message here: TensorRT asks about combinations that it need not get.
bool Plugin::supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* in_out,
                                       std::int32_t input_count, std::int32_t output_count) noexcept {
  try {
    check_counts(input_count, output_count);
    if (position < 0 || position >= input_count + output_count) return false;
    const PluginTensorDesc& asked = in_out[position].desc;
    return asked.format == TensorFormat::kLINEAR &&
           asked.type == types(in_out[0].desc.type)[static_cast<std::size_t>(position)];
  } catch (...) {
    return false;
  }
}

std::int32_t Plugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t input_count,
                                     const nvinfer1::DynamicPluginTensorDesc* out,
                                     std::int32_t output_count) noexcept {
  return guarded(name_, FAILED, [&]() -> std::int32_t {
    check_counts(input_count, output_count);
    std::vector<PluginTensorDesc> in_desc, out_desc;
    std::vector<Shape> largest;
    for (std::int32_t i = 0; i < input_count; ++i) {
      in_desc.push_back(in[i].desc);
      largest.push_back(shape_of(in[i].max));
    }
    for (std::int32_t i = 0; i < output_count; ++i) out_desc.push_back(out[i].desc);
    check_types(in_desc.data(), out_desc.data());
    configure(largest);
    return 0;
  });
}

void Plugin::check_types(const PluginTensorDesc* in, const PluginTensorDesc* out) const {
  const Types wanted = types(in[0].type);
  const std::size_t inputs = input_names_.size();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const PluginTensorDesc& desc = i < inputs ? in[i] : out[i - inputs];
    if (desc.type == wanted[i] && desc.format == TensorFormat::kLINEAR) continue;
    const std::string& name = i < inputs ? input_names_[i] : output_names_[i - inputs];
    throw Error(name + " has data type " + std::to_string(static_cast<int>(desc.type)) + " and format " +
                std::to_string(static_cast<int>(desc.format)) + "; it must be " +
                std::to_string(static_cast<int>(wanted[i])) + ", linear");
  }
}

std::int32_t Plugin::onShapeChange(const PluginTensorDesc* in, std::int32_t input_count, const PluginTensorDesc* out,
                                   std::int32_t output_count) noexcept {
  return guarded(name_, FAILED, [&]() -> std::int32_t {
    check_counts(input_count, output_count);
    check_types(in, out);
    // The builder may ask this of a plugin that it did not attach.
    if (device_ == nullptr) {
      device_ = std::make_unique<Device>();
      load(*device_);
    }
    prepare(in);
    return 0;
  });
}

void Plugin::prepare(const PluginTensorDesc* in) {
  prepared_.clear();
  std::vector<Shape> inputs;
  for (std::size_t i = 0; i < input_names_.size(); ++i) inputs.push_back(shape_of(in[i].dims));
  plan(*device_, inputs, in[0].type);
  prepared_.assign(in, in + input_names_.size());
}

bool Plugin::is_prepared(const PluginTensorDesc* in) const {
  if (prepared_.empty() || prepared_[0].type != in[0].type) return false;
  for (std::size_t i = 0; i < prepared_.size(); ++i) {
    if (!(prepared_[i].dims == in[i].dims)) return false;
  }
  return true;
}

std::int32_t Plugin::enqueue(const PluginTensorDesc* input_desc, const PluginTensorDesc* output_desc,
                             const void* const* inputs, void* const* outputs, void* workspace,
                             cudaStream_t stream) noexcept {
  return guarded(name_, FAILED, [&]() -> std::int32_t {
    if (device_ == nullptr) throw Error("enqueued before it was attached to an execution context");
    if (!is_prepared(input_desc)) {
      check_types(input_desc, output_desc);
      prepare(input_desc);
    }
    for (std::size_t i = 0; i < input_names_.size(); ++i) {
      check_aligned(input_names_[i], inputs[i], input_desc[i].dims);
    }
    for (std::size_t i = 0; i < output_names_.size(); ++i) {
      check_aligned(output_names_[i], outputs[i], output_desc[i].dims);
    }
    run(*device_, inputs, outputs, workspace, stream);
    return 0;
  });
}

const nvinfer1::PluginFieldCollection* Plugin::getFieldsToSerialize() noexcept {
  return guarded<const nvinfer1::PluginFieldCollection*>(name_, nullptr, [&] {
    fields_.clear();
    serialize(fields_);
    return fields_.collection();
  });
}

}  // namespace nvfp4
