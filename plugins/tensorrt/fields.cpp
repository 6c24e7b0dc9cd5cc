#include "fields.hpp"

#include <cstring>
#include <limits>

namespace nvfp4 {

namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr std::int32_t LONGEST_TEXT = 1024;

void check_single(const PluginField& field) {
  if (field.length != 1) {
    throw Error(std::string(field.name) + " holds " + std::to_string(field.length) + " values, not one");
  }
}

template <class Number>
Number value_of(const PluginField& field) {
  Number value;
  std::memcpy(&value, field.data, sizeof value);  // serialized data need not be aligned
  return value;
}

std::int64_t integer_of(const PluginField& field) {
  check_single(field);
  if (field.type == PluginFieldType::kINT32) return value_of<std::int32_t>(field);
  if (field.type == PluginFieldType::kINT64) return value_of<std::int64_t>(field);
  throw Error(std::string(field.name) + " must be an integer field");
}

}  // namespace

FieldReader::FieldReader(const nvinfer1::PluginFieldCollection* fields) {
  if (fields == nullptr || fields->nbFields < 0 || (fields->nbFields > 0 && fields->fields == nullptr)) {
    throw Error("there is no collection of fields");
  }
  for (std::int32_t i = 0; i < fields->nbFields; ++i) {
    const PluginField& field = fields->fields[i];
    if (field.name == nullptr) throw Error("a field has no name");
    if (field.data == nullptr || field.length < 0) throw Error(std::string(field.name) + " has no value");
    if (!fields_.emplace(field.name, &field).second) throw Error(std::string(field.name) + " is given twice");
  }
}

const PluginField* FieldReader::take(const char* name) {
  const auto found = fields_.find(name);
  if (found == fields_.end()) return nullptr;
  const PluginField* const field = found->second;
  fields_.erase(found);
  return field;
}

bool FieldReader::text(const char* name, std::string& value) {
  const PluginField* const field = take(name);
  if (field == nullptr) return false;
  if (field->type != PluginFieldType::kCHAR) throw Error(std::string(name) + " must be a character field");
  if (field->length > LONGEST_TEXT) throw Error(std::string(name) + " is too long");
  const char* const data = static_cast<const char*>(field->data);
  // The ONNX parser counts the zero at the end; others do not write one.
  value.assign(data, strnlen(data, static_cast<std::size_t>(field->length)));
  return true;
}

bool FieldReader::number(const char* name, std::int64_t& value) {
  const PluginField* const field = take(name);
  if (field != nullptr) value = integer_of(*field);
  return field != nullptr;
}

bool FieldReader::number(const char* name, std::int32_t& value) {
  std::int64_t wide = 0;
  if (!number(name, wide)) return false;
  if (wide < std::numeric_limits<std::int32_t>::min() || wide > std::numeric_limits<std::int32_t>::max()) {
    throw Error(std::string(name) + " does not fit 32 bits");
  }
  value = static_cast<std::int32_t>(wide);
  return true;
}

bool FieldReader::number(const char* name, float& value) {
  const PluginField* const field = take(name);
  if (field == nullptr) return false;
  if (field->type != PluginFieldType::kFLOAT32) throw Error(std::string(name) + " must be a float field");
  check_single(*field);
  value = value_of<float>(*field);
  return true;
}

void FieldReader::finish() const {
  if (!fields_.empty()) throw Error("there is no field '" + fields_.begin()->first + "'");
}

void FieldWriter::clear() {
  stored_.clear();
  fields_.clear();
}

void FieldWriter::add(const char* name, PluginFieldType type, const void* data, std::size_t bytes, std::size_t count) {
  Stored& stored = stored_.emplace_back();
  stored.memory.resize((bytes + 8) / 8);  // never empty: a field has data
  if (bytes > 0) std::memcpy(stored.memory.data(), data, bytes);
  // A vector's memory stays where it is when the vector itself is moved, so that the pointer holds.
  fields_.emplace_back(name, stored.memory.data(), type, static_cast<std::int32_t>(count));
}

void FieldWriter::text(const char* name, const std::string& value) {
  add(name, PluginFieldType::kCHAR, value.data(), value.size(), value.size());
}
void FieldWriter::number(const char* name, std::int32_t value) {
  add(name, PluginFieldType::kINT32, &value, sizeof value, 1);
}
void FieldWriter::number(const char* name, std::int64_t value) {
  add(name, PluginFieldType::kINT64, &value, sizeof value, 1);
}
void FieldWriter::number(const char* name, float value) {
  add(name, PluginFieldType::kFLOAT32, &value, sizeof value, 1);
}

const nvinfer1::PluginFieldCollection* FieldWriter::collection() {
  collection_.nbFields = static_cast<std::int32_t>(fields_.size());
  collection_.fields = fields_.data();
  return &collection_;
}

QuantizeAttributes read_quantize(FieldReader& reader) {
  QuantizeAttributes attributes;
  std::string scaling, function;
  if (!reader.text("scaling", scaling)) throw Error("the attribute scaling is missing");
  attributes.scaling = scaling_named(scaling);
  if (reader.text("function", function)) attributes.function = function_named(function);
  reader.number("epsilon", attributes.epsilon);
  reader.number("has_residual", attributes.has_residual);
  reader.number("has_weight", attributes.has_weight);
  reader.number("has_bias", attributes.has_bias);
  reader.number("emit_values", attributes.emit_values);
  reader.number("emit_sum", attributes.emit_sum);
  attributes.check();
  return attributes;
}

GemmAttributes read_gemm(FieldReader& reader) {
  GemmAttributes attributes;
  if (!reader.number("dtype", attributes.dtype)) throw Error("the attribute dtype is missing");
  reader.number("has_bias", attributes.has_bias);
  attributes.check();
  return attributes;
}

void write(const QuantizeAttributes& attributes, FieldWriter& writer) {
  writer.text("scaling", name_of(attributes.scaling));
  writer.text("function", name_of(attributes.function));
  writer.number("epsilon", attributes.epsilon);
  writer.number("has_residual", attributes.has_residual);
  writer.number("has_weight", attributes.has_weight);
  writer.number("has_bias", attributes.has_bias);
  writer.number("emit_values", attributes.emit_values);
  writer.number("emit_sum", attributes.emit_sum);
}

void write(const GemmAttributes& attributes, FieldWriter& writer) {
  writer.number("dtype", attributes.dtype);
  writer.number("has_bias", attributes.has_bias);
}

}  // namespace nvfp4
