#include <algorithm>

#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr DataType ALL_TYPES[] = {DataType::kFLOAT, DataType::kHALF, DataType::kINT8,  DataType::kINT32,
                                  DataType::kBOOL,  DataType::kFP8,  DataType::kBF16, DataType::kINT64};
constexpr TensorFormat ALL_FORMATS[] = {TensorFormat::kLINEAR, TensorFormat::kCHW2,  TensorFormat::kHWC8,
                                        TensorFormat::kCHW4,   TensorFormat::kCHW16, TensorFormat::kCHW32};

std::string text_of(const std::vector<Tensor>& tensors) {
  std::string text;
  for (const Tensor& tensor : tensors) {
    text += (text.empty() ? "" : ", ") + std::to_string(static_cast<int>(tensor.type)) + " " +
            harness::text_of(tensor.shape);
  }
  return text;
}

void outputs_are(Report& report, Library& library, const std::string& what, const std::string& name,
                 const Fields& fields, const std::vector<Tensor>& inputs, const std::vector<Tensor>& wanted) {
  report.runs(name + " outputs: " + what, [&]() -> std::string {
    const Node node(library, name, fields, inputs);
    const bool same = std::equal(node.outputs().begin(), node.outputs().end(), wanted.begin(), wanted.end(),
                                 [](const Tensor& a, const Tensor& b) { return a.type == b.type && a.shape == b.shape; });
    return same ? "" : text_of(node.outputs()) + " instead of " + text_of(wanted);
  });
}

void check_outputs(Report& report, Library& library) {
  const Tensor one{DataType::kFLOAT, {1}};
  const auto bytes = [](const Shape& shape) { return Tensor{DataType::kINT8, shape}; };
  for (Type type : TYPES) {
    for (const Shape& shape : {Shape{48}, Shape{7, 64}, Shape{3, 50, 112}, Shape{2, 2, 40, 1024}}) {
      QuantizeCase c;
      c.type = type, c.shape = shape, c.function = "layer_norm", c.residual = c.emit_values = c.emit_sum = true;
      Shape codes = shape, alpha = shape;
      codes.back() /= 2, alpha.back() = 1;
      const Tensor x{data_type_of(type), shape}, scales = bytes({swizzled_bytes(c.rows(), c.columns())});
      c.mode = Mode::TOKEN;
      outputs_are(report, library, c.text(), QUANTIZE, c.fields(), c.inputs(),
                  {bytes(codes), scales, Tensor{DataType::kFLOAT, alpha}, x, x});
      c.mode = Mode::STATIC, c.emit_values = c.emit_sum = false;
      outputs_are(report, library, c.text(), QUANTIZE, c.fields(), c.inputs(), {bytes(codes), scales, one});
    }
    GemmCase g;
    g.type = type, g.lead = {3, 50}, g.n = 40, g.k = 96, g.bias = g.alpha_per_row = true;
    outputs_are(report, library, g.text(), GEMM, g.fields(), g.inputs(), {{data_type_of(type), {3, 50, 40}}});
  }
}

// Of all types and formats at every position, exactly those of `good` are taken.
std::string wrong_formats(Library& library, const std::string& name, const Fields& fields,
                          const std::vector<Tensor>& good, std::int32_t inputs) {
  const PluginPtr plugin = create(library, name, fields);
  std::vector<DynamicPluginTensorDesc> descs;
  for (const Tensor& tensor : good) descs.push_back(dynamic_desc_of(tensor));
  const auto count = static_cast<std::int32_t>(good.size());
  for (std::int32_t i = 0; i < count; ++i) {
    DynamicPluginTensorDesc& desc = descs[static_cast<std::size_t>(i)];
    const DynamicPluginTensorDesc kept = desc;
    for (DataType type : ALL_TYPES) {
      for (TensorFormat format : ALL_FORMATS) {
        // The first input of a quantization may be of any float type: the others follow it.
        const bool free = i == 0 && (kept.desc.type != DataType::kINT8) &&
                          (type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16);
        const bool wanted = format == TensorFormat::kLINEAR && (free || type == kept.desc.type);
        desc.desc.type = type, desc.desc.format = format;
        if (build_of(*plugin).supportsFormatCombination(i, descs.data(), inputs, count - inputs) != wanted) {
          return "position " + std::to_string(i) + ", type " + std::to_string(static_cast<int>(type)) + ", format " +
                 std::to_string(static_cast<int>(format));
        }
      }
    }
    desc = kept;
  }
  const bool beyond = build_of(*plugin).supportsFormatCombination(count, descs.data(), inputs, count - inputs);
  const bool before = build_of(*plugin).supportsFormatCombination(-1, descs.data(), inputs, count - inputs);
  const bool fewer = build_of(*plugin).supportsFormatCombination(0, descs.data(), inputs - 1, count - inputs);
  return beyond || before || fewer ? "a position or a number of tensors that there is not" : "";
}

void check_formats(Report& report, Library& library) {
  for (Type type : TYPES) {
    QuantizeCase c;
    c.type = type, c.mode = Mode::STATIC, c.shape = {4, 64}, c.function = "layer_norm";
    c.residual = c.weight = c.bias = c.emit_values = c.emit_sum = true;
    const Node node(library, QUANTIZE, c.fields(), c.inputs());
    std::vector<Tensor> all = node.inputs();
    all.insert(all.end(), node.outputs().begin(), node.outputs().end());
    report.runs(std::string(QUANTIZE) + " formats: " + name_of(type),
                [&] { return wrong_formats(library, QUANTIZE, c.fields(), all, 5); });
    GemmCase g;
    g.type = type, g.lead = {4}, g.n = 8, g.k = 32, g.bias = true;
    const Node gemm(library, GEMM, g.fields(), g.inputs());
    all = gemm.inputs();
    all.insert(all.end(), gemm.outputs().begin(), gemm.outputs().end());
    report.runs(std::string(GEMM) + " formats: " + name_of(type),
                [&] { return wrong_formats(library, GEMM, g.fields(), all, 7); });
  }
}

// The builder's questions about inputs that do not fit end in its error path.
void misfits(Report& report, Library& library, const std::string& what, const std::string& name, const Fields& fields,
             const std::vector<Tensor>& inputs) {
  report.runs(name + " does not build with " + what, [&]() -> std::string {
    library.log().take();
    try {
      const Node node(library, name, fields, inputs);
    } catch (const Failure&) {
      return "";  // the message that was logged is part of it
    }
    return "it was built";
  });
}

void check_misfits(Report& report, Library& library) {
  QuantizeCase c;
  c.mode = Mode::STATIC, c.shape = {4, 64}, c.function = "rms_norm", c.residual = c.weight = true;
  GemmCase g;
  g.lead = {4}, g.n = 16, g.k = 64, g.bias = true;
  const auto changed = [](std::vector<Tensor> inputs, std::size_t i, DataType type, const Shape& shape) {
    inputs[i] = Tensor{type, shape};
    return inputs;
  };
  const auto quantize = [&](const std::string& what, std::size_t i, DataType type, const Shape& shape) {
    misfits(report, library, what, QUANTIZE, c.fields(), changed(c.inputs(), i, type, shape));
  };
  const auto gemm = [&](const std::string& what, std::size_t i, DataType type, const Shape& shape) {
    misfits(report, library, what, GEMM, g.fields(), changed(g.inputs(), i, type, shape));
  };
  quantize("x of 8-bit integers", 0, DataType::kINT8, {4, 64});
  quantize("x of no dimensions", 0, DataType::kBF16, {});
  quantize("K = 40", 0, DataType::kBF16, {4, 40});
  quantize("another dtype of the residual", 1, DataType::kHALF, {4, 64});
  quantize("another shape of the residual", 1, DataType::kBF16, {5, 64});
  quantize("a weight for another K", 2, DataType::kBF16, {32});
  quantize("two scales", 3, DataType::kFLOAT, {2});
  quantize("a scale of bf16", 3, DataType::kBF16, {1});
  gemm("codes of uint8", 0, DataType::kUINT8, {4, 32});
  gemm("K of a other than b's", 0, DataType::kINT8, {4, 48});
  gemm("too few scales of a", 1, DataType::kINT8, {511});
  gemm("alpha for other rows", 2, DataType::kFLOAT, {3, 1});
  gemm("N = 12", 3, DataType::kINT8, {12, 32});
  gemm("b in three dimensions", 3, DataType::kINT8, {1, 16, 32});
  gemm("row-major scales of b", 4, DataType::kINT8, {16, 4});
  gemm("beta for other columns", 5, DataType::kFLOAT, {8});
  gemm("a bias of another dtype", 6, DataType::kFLOAT, {16});
  std::vector<Tensor> fewer = c.inputs();
  fewer.pop_back();
  misfits(report, library, "an input too few", QUANTIZE, c.fields(), fewer);
  std::vector<Tensor> more = g.inputs();
  more.push_back(more.back());
  misfits(report, library, "an input too many", GEMM, g.fields(), more);
}

}  // namespace

void check_build(Report& report, Library& library) {
  check_outputs(report, library);
  check_formats(report, library);
  check_misfits(report, library);
}

}  // namespace harness
