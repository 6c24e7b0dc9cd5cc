// The side of TensorRT that the plugins are driven from: what its builder and its runtime would hold.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace harness {

using nvinfer1::DataType;
using Shape = std::vector<std::int64_t>;

struct Tensor {
  DataType type;
  Shape shape;
};

std::int64_t volume(const Shape& shape);
std::size_t size_of(DataType type);
nvinfer1::Dims dims_of(const Shape& shape);
nvinfer1::PluginTensorDesc desc_of(const Tensor& tensor);
nvinfer1::DynamicPluginTensorDesc dynamic_desc_of(const Tensor& tensor);  // every bound is the shape

// Collects what the plugins log.
class Log final : public nvinfer1::ILogger, public nvinfer1::ILoggerFinder {
 public:
  void log(Severity severity, const char* message) noexcept override;
  nvinfer1::ILogger* findLogger() override { return this; }
  std::vector<std::string> take();

 private:
  std::vector<std::string> messages_;
};

// Expressions over dimensions that are known: every operation is computed at once.
class Evaluator final : public nvinfer1::IExprBuilder, private nvinfer1::apiv::VExprBuilder {
 public:
  Evaluator() { mImpl = this; }
  nvinfer1::DimsExprs expressions_of(const Shape& shape);
  static Shape shape_of(const nvinfer1::DimsExprs& expressions);
  int operations() const { return operations_; }

 private:
  class Number final : public nvinfer1::IDimensionExpr, private nvinfer1::apiv::VDimensionExpr {
   public:
    explicit Number(std::int64_t value) : value_(value) { mImpl = this; }

   private:
    bool isConstant() const override { return true; }
    std::int64_t getConstantValue() const override { return value_; }
    bool isSizeTensor() const override { return false; }
    std::int64_t value_;
  };

  const nvinfer1::IDimensionExpr* constant(std::int64_t value) override;
  const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation op, const nvinfer1::IDimensionExpr& first,
                                            const nvinfer1::IDimensionExpr& second) override;
  const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                    const nvinfer1::IDimensionExpr&) override;

  std::deque<Number> numbers_;  // a deque's elements stay where they are
  int operations_ = 0;
};

class ResourceContext final : public nvinfer1::IPluginResourceContext {
 public:
  nvinfer1::IGpuAllocator* getGpuAllocator() const noexcept override { return nullptr; }
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
};

// Fields of a plugin, with copies of their values.
class Fields {
 public:
  Fields& text(const std::string& name, const std::string& value, bool terminated = true);
  Fields& integer(const std::string& name, std::int32_t value);
  Fields& number(const std::string& name, float value);
  Fields& raw(const std::string& name, nvinfer1::PluginFieldType type, const std::vector<std::uint8_t>& data,
              std::int32_t length);
  // A copy of what a plugin serializes: TensorRT keeps bytes, not the plugin's own memory.
  static Fields copied(const nvinfer1::PluginFieldCollection& collection);
  nvinfer1::PluginFieldCollection collection() const;

  struct Field {
    std::string name;
    nvinfer1::PluginFieldType type;
    std::vector<std::uint8_t> data;
    std::int32_t length;
  };
  std::vector<Field>& all() { return fields_; }

 private:
  std::vector<Field> fields_;
  mutable std::vector<nvinfer1::PluginField> views_;
};

// libnvfp4_plugin.so, as TensorRT's registry loads it.
class Library {
 public:
  explicit Library(const std::string& path);
  nvinfer1::IPluginCreatorV3One& creator(const std::string& name) const;  // throws Failure where there is none
  const std::vector<nvinfer1::IPluginCreatorV3One*>& creators() const { return creators_; }
  Log& log() { return log_; }

 private:
  Log log_;
  std::vector<nvinfer1::IPluginCreatorV3One*> creators_;
};

}  // namespace harness
