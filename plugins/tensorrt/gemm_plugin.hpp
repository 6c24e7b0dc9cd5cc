// The plugin Nvfp4Gemm: D = (A · B^T) * alpha * beta + bias on FP4 codes with swizzled block scales.
#pragma once

#include "plugin.hpp"
#include "tiles.hpp"

namespace nvfp4 {

class GemmPlugin final : public Plugin {
 public:
  static constexpr const char* NAME = "Nvfp4Gemm";

  static nvinfer1::PluginFieldCollection fields();  // what the creator advertises
  static GemmPlugin* create(FieldReader& reader, nvinfer1::TensorRTPhase phase);

  GemmPlugin(const GemmAttributes& attributes, std::int64_t workspace);

  std::size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                               const nvinfer1::DynamicPluginTensorDesc* outputs,
                               std::int32_t output_count) const noexcept override;

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
  void serialize(FieldWriter& writer) const override;

  GemmAttributes attributes_;
  // Bytes that were declared when the engine was built, -1 where that is not known. Splits never take more, so
  // that an engine may run with a library whose table of tiles is another.
  std::int64_t workspace_;
  Launch launch_;
  Workspace needed_{0, 0};
  CUfunction function_ = nullptr;
  std::int32_t m_ = 0, n_ = 0, k_ = 0, alpha_stride_ = 0, beta_stride_ = 0, split_k_ = 1;
};

}  // namespace nvfp4
