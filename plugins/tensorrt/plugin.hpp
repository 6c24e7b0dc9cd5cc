// What both plugins share: TensorRT's four interfaces, with every exception turned into TensorRT's error path.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>
#include <vector>

#include "device.hpp"
#include "fields.hpp"
#include "shapes.hpp"

namespace nvfp4 {

constexpr const char* PLUGIN_VERSION = "1";
constexpr const char* PLUGIN_NAMESPACE = "nvfp4";

// A kind of tensor, as formats are asked about: linear, and of this type.
using Types = std::vector<nvinfer1::DataType>;

class Plugin : public nvinfer1::IPluginV3,
               public nvinfer1::IPluginV3OneCore,
               public nvinfer1::IPluginV3OneBuild,
               public nvinfer1::IPluginV3OneRuntime {
 public:
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override { return name_; }
  const char* getPluginVersion() const noexcept override { return PLUGIN_VERSION; }
  const char* getPluginNamespace() const noexcept override { return PLUGIN_NAMESPACE; }

  std::int32_t getNbOutputs() const noexcept override;
  std::int32_t getOutputDataTypes(nvinfer1::DataType* output_types, std::int32_t output_count,
                                  const nvinfer1::DataType* input_types,
                                  std::int32_t input_count) const noexcept override;
  std::int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count,
                               const nvinfer1::DimsExprs* shape_inputs, std::int32_t shape_input_count,
                               nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                               nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* in_out,
                                 std::int32_t input_count, std::int32_t output_count) noexcept override;
  std::int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, std::int32_t input_count,
                               const nvinfer1::DynamicPluginTensorDesc* out,
                               std::int32_t output_count) noexcept override;
  const char* getTimingCacheID() noexcept override { return timing_id_.c_str(); }
  const char* getMetadataString() noexcept override { return metadata_.c_str(); }

  std::int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, std::int32_t input_count,
                             const nvinfer1::PluginTensorDesc* out, std::int32_t output_count) noexcept override;
  std::int32_t enqueue(const nvinfer1::PluginTensorDesc* input_desc, const nvinfer1::PluginTensorDesc* output_desc,
                       const void* const* inputs, void* const* outputs, void* workspace,
                       cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 protected:
  // `metadata`: the attributes as JSON, which TensorRT's inspector shows.
  Plugin(const char* name, std::string metadata, std::vector<std::string> inputs, std::vector<std::string> outputs);

  const std::vector<std::string>& input_names() const { return input_names_; }
  const std::vector<std::string>& output_names() const { return output_names_; }

  virtual std::unique_ptr<Plugin> copy() const = 0;
  // The types of all inputs and outputs, given that of the first input.
  virtual Types types(nvinfer1::DataType first) const = 0;
  virtual void shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                      nvinfer1::IExprBuilder& builder) const = 0;
  // Shapes of the largest problem that the profile allows.
  virtual void configure(const std::vector<Shape>& largest) = 0;
  // Loads what this device may be asked to run.
  virtual void load(Device& device) const = 0;
  // Decides how the problem of these shapes and types is launched.
  virtual void plan(Device& device, const std::vector<Shape>& inputs, nvinfer1::DataType first) = 0;
  // Launches what was planned.
  virtual void run(Device& device, const void* const* inputs, void* const* outputs, void* workspace,
                   CUstream stream) = 0;
  virtual void serialize(FieldWriter& writer) const = 0;

 private:
  void check_counts(std::int32_t inputs, std::int32_t outputs) const;
  void check_types(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out) const;
  void prepare(const nvinfer1::PluginTensorDesc* in);
  bool is_prepared(const nvinfer1::PluginTensorDesc* in) const;

  const char* name_;
  std::vector<std::string> input_names_, output_names_;
  std::string metadata_, timing_id_;
  FieldWriter fields_;
  std::unique_ptr<Device> device_;                     // of a plugin that is attached to a context
  std::vector<nvinfer1::PluginTensorDesc> prepared_;  // the inputs that were planned for
};

bool operator==(const nvinfer1::Dims& a, const nvinfer1::Dims& b);
Dtype dtype_of(nvinfer1::DataType type);  // throws Error unless it is a float type that the kernels have
bool is_float(nvinfer1::DataType type);

}  // namespace nvfp4
