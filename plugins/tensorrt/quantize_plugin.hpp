// The plugin Nvfp4Quantize: [norm or activation,] largest magnitude, codes and swizzled block scales in one launch.
#pragma once

#include "arguments.hpp"
#include "plugin.hpp"

namespace nvfp4 {

class QuantizePlugin final : public Plugin {
 public:
  static constexpr const char* NAME = "Nvfp4Quantize";

  static nvinfer1::PluginFieldCollection fields();  // what the creator advertises
  static QuantizePlugin* create(FieldReader& reader, nvinfer1::TensorRTPhase phase);

  explicit QuantizePlugin(const QuantizeAttributes& attributes);

 private:
  std::unique_ptr<Plugin> copy() const override;
  Types types(nvinfer1::DataType first) const override;
  void shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
              nvinfer1::IExprBuilder& builder) const override;
  void configure(const std::vector<Shape>& largest) override;
  void load(Device& device) const override;
  void plan(Device& device, const std::vector<Shape>& inputs, nvinfer1::DataType first) override;
  void run(Device& device, const void* const* inputs, void* const* outputs, void* workspace,
           CUstream stream) override;
  void serialize(FieldWriter& writer) const override { write(attributes_, writer); }
  void fill_empty(const void* const* inputs, void* const* outputs, CUstream stream) const;

  QuantizeAttributes attributes_;
  QuantizeArguments arguments_{};  // all but the pointers
  Launch launch_;
  CUfunction function_ = nullptr;
};

}  // namespace nvfp4
