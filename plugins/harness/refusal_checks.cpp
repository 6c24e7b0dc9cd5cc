#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

QuantizeCase full_quantize() {
  QuantizeCase c;
  c.mode = Mode::STATIC, c.shape = {10, 128}, c.function = "layer_norm";
  c.residual = c.weight = c.bias = c.emit_values = c.emit_sum = true;
  return c;
}

// Each tensor in turn at an address that is off, or null: enqueue refuses, and writes nothing.
void check_pointers(Report& report, Library& library, const std::string& name, const Fields& fields,
                    const std::vector<Tensor>& inputs, const std::vector<Bytes>& data) {
  Node node(library, name, fields, inputs);
  Binding binding(node, data);
  const Stream stream;
  const PluginPtr attached = node.attach();
  const std::vector<Bytes> poison = binding.read();
  const std::size_t count = inputs.size() + node.outputs().size();
  for (std::size_t i = 0; i < count; ++i) {
    for (const bool null : {false, true}) {
      report.runs(name + " refuses tensor " + std::to_string(i) + (null ? " at no address" : " at an odd address"), [&] {
        std::vector<const void*> in = binding.in();
        std::vector<void*> out = binding.out();
        const auto off = [&](const void* pointer) {
          return null ? nullptr : static_cast<const std::uint8_t*>(pointer) + 2;
        };
        if (i < in.size()) {
          in[i] = off(in[i]);
        } else {
          out[i - in.size()] = const_cast<std::uint8_t*>(off(out[i - in.size()]));
        }
        library.log().take();
        const bool outcome = node.enqueue(*attached, in, out, binding.workspace(), stream.handle()) != 0;
        stream.wait();
        if (binding.read() != poison) return std::string("something was written");
        return refused(outcome, library);
      });
    }
  }
}

void check_shapes(Report& report, Library& library) {
  const QuantizeCase c = full_quantize();
  Node node(library, QUANTIZE, c.fields(), c.inputs());
  const PluginPtr attached = node.attach();
  const auto refuses = [&](const std::string& what, std::size_t i, DataType type, const Shape& shape) {
    report.runs("Nvfp4Quantize does not change to " + what, [&] {
      std::vector<nvinfer1::PluginTensorDesc> in, out;
      for (const Tensor& tensor : node.inputs()) in.push_back(desc_of(tensor));
      for (const Tensor& tensor : node.outputs()) out.push_back(desc_of(tensor));
      in[i] = desc_of(Tensor{type, shape});
      library.log().take();
      return refused(runtime_of(*attached).onShapeChange(in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                                         static_cast<std::int32_t>(out.size())) != 0,
                     library);
    });
  };
  refuses("K = 120", 0, DataType::kBF16, {10, 120});
  refuses("a dimension that is not known", 0, DataType::kBF16, {-1, 128});
  refuses("a residual of fewer rows", 1, DataType::kBF16, {9, 128});
  refuses("a weight of another dtype", 2, DataType::kFLOAT, {128});
  refuses("2^31 rows", 0, DataType::kBF16, {65536, 32768, 128});
  report.runs("after refusing, it runs with good shapes again", [&]() -> std::string {
    Random random(3);
    Binding binding(node, QuantizeData(c, random).bytes(c));
    const Stream stream;
    if (node.tell(*attached) != 0) return "onShapeChange failed";
    if (node.enqueue(*attached, binding.in(), binding.out(), nullptr, stream.handle()) != 0) return "enqueue failed";
    stream.wait();
    return binding.guards_intact() ? "" : "something was written behind the end of a buffer";
  });
}

}  // namespace

void check_run_refusals(Report& report, Library& library) {
  const QuantizeCase c = full_quantize();
  Random random(11);
  check_pointers(report, library, QUANTIZE, c.fields(), c.inputs(), QuantizeData(c, random).bytes(c));
  GemmCase g;
  g.lead = {10}, g.n = 64, g.k = 128, g.bias = g.alpha_per_row = g.beta_per_column = true;
  check_pointers(report, library, GEMM, g.fields(), g.inputs(), GemmData(g, random).bytes(g));
  check_shapes(report, library);
  GemmCase split;
  split.lead = {1}, split.n = 256, split.k = 8192;
  Node node(library, GEMM, split.fields(), split.inputs());
  if (node.workspace() == 0) return;  // the table of tiles splits nothing here
  report.runs("Nvfp4Gemm refuses to split K without a workspace", [&] {
    Binding binding(node, GemmData(split, random).bytes(split));
    const Stream stream;
    const PluginPtr attached = node.attach();
    library.log().take();
    return refused(node.enqueue(*attached, binding.in(), binding.out(), nullptr, stream.handle()) != 0, library);
  });
}

void check_missing_cubins(Report& report, Library& without) {
  const QuantizeCase c = full_quantize();
  GemmCase g;
  g.lead = {10}, g.n = 64, g.k = 128;
  for (const bool gemm : {false, true}) {
    Node node(without, gemm ? GEMM : QUANTIZE, gemm ? g.fields() : c.fields(), gemm ? g.inputs() : c.inputs());
    report.runs(std::string(gemm ? GEMM : QUANTIZE) + " without a cubin for this GPU is not attached, and says so", [&] {
      ResourceContext context;
      without.log().take();
      const bool outcome = PluginPtr(runtime_of(node.loaded()).attachToContext(&context)) == nullptr;
      const std::vector<std::string> messages = without.log().take();
      if (!outcome) return std::string("it was attached");
      const bool named = messages.size() == 1 && messages[0].find("no cubin") != std::string::npos;
      return named ? std::string() : "the message does not name the cubin";
    });
  }
}

}  // namespace harness
