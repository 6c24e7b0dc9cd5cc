// TensorRT's plugin fields: read into attributes, and written from them.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "attributes.hpp"

namespace nvfp4 {

// Fields by name, each to be taken once. What is left in the end is unknown.
class FieldReader {
 public:
  explicit FieldReader(const nvinfer1::PluginFieldCollection* fields);

  // Each returns whether the field is there, and throws Error where it is of another type or length.
  bool text(const char* name, std::string& value);
  bool number(const char* name, std::int32_t& value);
  bool number(const char* name, std::int64_t& value);
  bool number(const char* name, float& value);
  void finish() const;  // throws Error where a field was not taken

 private:
  const nvinfer1::PluginField* take(const char* name);
  std::map<std::string, const nvinfer1::PluginField*> fields_;
};

// Fields that hold copies of their values, for TensorRT to serialize.
class FieldWriter {
 public:
  void clear();
  void text(const char* name, const std::string& value);
  void number(const char* name, std::int32_t value);
  void number(const char* name, std::int64_t value);
  void number(const char* name, float value);
  const nvinfer1::PluginFieldCollection* collection();

 private:
  void add(const char* name, nvinfer1::PluginFieldType type, const void* data, std::size_t bytes, std::size_t count);

  struct Stored {
    std::vector<std::uint64_t> memory;  // of 8-byte alignment, whatever it holds
  };
  std::vector<Stored> stored_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

QuantizeAttributes read_quantize(FieldReader& reader);
GemmAttributes read_gemm(FieldReader& reader);
void write(const QuantizeAttributes& attributes, FieldWriter& writer);
void write(const GemmAttributes& attributes, FieldWriter& writer);

}  // namespace nvfp4
