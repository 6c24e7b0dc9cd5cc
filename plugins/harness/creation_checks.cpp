#include <cmath>
#include <cstring>
#include <functional>

#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

std::string names_of(const nvinfer1::PluginFieldCollection& fields) {
  std::string names;
  for (std::int32_t i = 0; i < fields.nbFields; ++i) names += std::string(i == 0 ? "" : " ") + fields.fields[i].name;
  return names;
}

void check_creators(Report& report, Library& library) {
  report.holds("two creators", library.creators().size() == 2);
  for (nvinfer1::IPluginCreatorV3One* creator : library.creators()) {
    const std::string name = creator->getPluginName();
    report.holds(name + ": version and namespace", std::strcmp(creator->getPluginVersion(), "1") == 0 &&
                                                       std::strcmp(creator->getPluginNamespace(), "nvfp4") == 0);
    const std::string wanted = name == GEMM ? "dtype has_bias"
                                            : "scaling function epsilon has_residual has_weight has_bias emit_values "
                                              "emit_sum";
    report.holds(name + ": field names", names_of(*creator->getFieldNames()) == wanted,
                 names_of(*creator->getFieldNames()));
  }
}

void accepts(Report& report, Library& library, const std::string& what, const std::string& name,
             const Fields& fields) {
  report.runs(name + " takes " + what, [&]() -> std::string {
    const PluginPtr plugin = create(library, name, fields);
    if (plugin != nullptr) return "";
    const std::vector<std::string> messages = library.log().take();
    return messages.empty() ? "refused" : messages[0];
  });
}

void refuses(Report& report, Library& library, const std::string& what, const std::string& name,
             const Fields& fields) {
  report.runs(name + " refuses " + what, [&] {
    library.log().take();
    return refused(create(library, name, fields) == nullptr, library);
  });
}

Fields quantize_fields(const std::string& scaling, const std::string& function = "none") {
  return Fields().text("scaling", scaling).text("function", function);
}

void check_good_attributes(Report& report, Library& library) {
  accepts(report, library, "a scaling alone", QUANTIZE, Fields().text("scaling", "token"));
  accepts(report, library, "text without a zero at its end", QUANTIZE, Fields().text("scaling", "tensor", false));
  for (const char* function : {"none", "layer_norm", "rms_norm", "gelu", "gelu_tanh", "silu", "silu_mul", "relu"}) {
    accepts(report, library, function, QUANTIZE, quantize_fields("single", function));
  }
  accepts(report, library, "every flag", QUANTIZE,
          quantize_fields("static", "layer_norm").integer("has_residual", 1).integer("has_weight", 1)
              .integer("has_bias", 1).integer("emit_values", 1).integer("emit_sum", 1).number("epsilon", 1e-6f));
  for (std::int32_t dtype : {1, 10, 16}) {
    accepts(report, library, "dtype " + std::to_string(dtype), GEMM, Fields().integer("dtype", dtype));
  }
}

void check_bad_quantize(Report& report, Library& library) {
  refuses(report, library, "no fields at all", QUANTIZE, Fields());
  refuses(report, library, "an unknown scaling", QUANTIZE, quantize_fields("row"));
  refuses(report, library, "an empty scaling", QUANTIZE, quantize_fields(""));
  refuses(report, library, "an unknown function", QUANTIZE, quantize_fields("token", "swish"));
  refuses(report, library, "an unknown field", QUANTIZE, quantize_fields("token").integer("axis", 1));
  refuses(report, library, "a field twice", QUANTIZE, quantize_fields("token").text("scaling", "token"));
  refuses(report, library, "scaling as a number", QUANTIZE, Fields().integer("scaling", 0));
  refuses(report, library, "a flag as text", QUANTIZE, quantize_fields("token").text("has_weight", "1"));
  refuses(report, library, "a flag of 2", QUANTIZE, quantize_fields("token", "rms_norm").integer("has_weight", 2));
  refuses(report, library, "epsilon as an integer", QUANTIZE, quantize_fields("token").integer("epsilon", 0));
  refuses(report, library, "epsilon below 0", QUANTIZE, quantize_fields("token").number("epsilon", -1.0f));
  refuses(report, library, "epsilon that is NaN", QUANTIZE, quantize_fields("token").number("epsilon", NAN));
  refuses(report, library, "two epsilons", QUANTIZE,
          quantize_fields("token").raw("epsilon", PluginFieldType::kFLOAT32, Bytes(8), 2));
  refuses(report, library, "a weight without a norm", QUANTIZE, quantize_fields("token").integer("has_weight", 1));
  refuses(report, library, "a bias of rms_norm", QUANTIZE,
          quantize_fields("token", "rms_norm").integer("has_bias", 1));
  refuses(report, library, "a residual of gelu", QUANTIZE,
          quantize_fields("token", "gelu").integer("has_residual", 1));
  refuses(report, library, "the sum of no residual", QUANTIZE,
          quantize_fields("token", "rms_norm").integer("emit_sum", 1));
  refuses(report, library, "the values of no function", QUANTIZE, quantize_fields("token").integer("emit_values", 1));
}

void check_bad_gemm(Report& report, Library& library) {
  refuses(report, library, "no dtype", GEMM, Fields().integer("has_bias", 1));
  refuses(report, library, "dtype 11 (double)", GEMM, Fields().integer("dtype", 11));
  refuses(report, library, "dtype as text", GEMM, Fields().text("dtype", "f16"));
  refuses(report, library, "a dtype of 8 bytes that does not fit 4", GEMM,
          Fields().raw("dtype", PluginFieldType::kINT64, {0, 0, 0, 0, 1, 0, 0, 0}, 1));
  refuses(report, library, "a serialized field before there is an engine", GEMM,
          Fields().integer("dtype", 1).integer("workspace_bytes", 0));
}

void check_broken_collections(Report& report, Library& library) {
  const nvinfer1::PluginField nameless(nullptr, "token", PluginFieldType::kCHAR, 5);
  const nvinfer1::PluginField empty("scaling", nullptr, PluginFieldType::kCHAR, 5);
  const nvinfer1::PluginField negative("scaling", "token", PluginFieldType::kCHAR, -5);
  const std::pair<const char*, nvinfer1::PluginFieldCollection> broken[] = {
      {"fields that are null", {1, nullptr}},     {"a negative number of fields", {-1, &nameless}},
      {"a field without a name", {1, &nameless}}, {"a field without data", {1, &empty}},
      {"a field of negative length", {1, &negative}}};
  nvinfer1::IPluginCreatorV3One& creator = library.creator(QUANTIZE);
  for (const auto& [what, collection] : broken) {
    report.runs(std::string(QUANTIZE) + " refuses " + what, [&, fields = &collection] {
      library.log().take();
      return refused(PluginPtr(creator.createPlugin("harness", fields, TensorRTPhase::kBUILD)) == nullptr, library);
    });
  }
  report.runs(std::string(QUANTIZE) + " refuses no collection, for a layer without a name", [&] {
    library.log().take();
    return refused(PluginPtr(creator.createPlugin(nullptr, nullptr, TensorRTPhase::kBUILD)) == nullptr, library);
  });
}

}  // namespace

std::string refused(bool outcome, Library& library) {
  const std::vector<std::string> messages = library.log().take();
  if (!outcome) return "it was accepted";
  return messages.size() == 1 ? "" : std::to_string(messages.size()) + " messages were logged instead of one";
}

void check_creation(Report& report, Library& library) {
  check_creators(report, library);
  check_good_attributes(report, library);
  check_bad_quantize(report, library);
  check_bad_gemm(report, library);
  check_broken_collections(report, library);
}

}  // namespace harness
