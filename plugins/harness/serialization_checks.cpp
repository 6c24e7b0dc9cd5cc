#include <cstring>

#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

using nvinfer1::PluginFieldType;
using nvinfer1::TensorRTPhase;

QuantizeCase rich_quantize() {
  QuantizeCase c;
  c.mode = Mode::STATIC, c.shape = {4, 64}, c.function = "layer_norm", c.epsilon = 0.0123f;
  c.residual = c.weight = c.bias = c.emit_values = c.emit_sum = true;
  return c;
}

GemmCase rich_gemm() {
  GemmCase g;
  g.lead = {16}, g.n = 256, g.k = 4096, g.bias = true;
  return g;
}

Fields serialized(nvinfer1::IPluginV3& plugin) {
  const nvinfer1::PluginFieldCollection* const fields = runtime_of(plugin).getFieldsToSerialize();
  if (fields == nullptr) throw Failure("getFieldsToSerialize returned nothing");
  return Fields::copied(*fields);
}

std::string difference(Fields a, Fields b) {
  if (a.all().size() != b.all().size()) return "another number of fields";
  for (std::size_t i = 0; i < a.all().size(); ++i) {
    const Fields::Field &x = a.all()[i], &y = b.all()[i];
    if (x.name != y.name || x.type != y.type || x.length != y.length || x.data != y.data) return x.name + " differs";
  }
  return "";
}

void check_round_trip(Report& report, Library& library, const std::string& name, const Fields& fields,
                      const std::vector<Tensor>& inputs) {
  report.runs(name + ": serialized, loaded and serialized again", [&] {
    Node node(library, name, fields, inputs);
    const PluginPtr again = create(library, name, serialized(node.loaded()), TensorRTPhase::kRUNTIME);
    return again == nullptr ? "not loaded" : difference(serialized(node.loaded()), serialized(*again));
  });
  report.runs(name + ": a clone serializes to the same and says the same of itself", [&]() -> std::string {
    Node node(library, name, fields, inputs);
    const PluginPtr clone(node.loaded().clone());
    if (clone == nullptr) return "not cloned";
    const std::string a = build_of(node.loaded()).getMetadataString(), b = build_of(*clone).getMetadataString();
    const std::string c = build_of(node.loaded()).getTimingCacheID(), d = build_of(*clone).getTimingCacheID();
    if (a != b || c != d || a.empty() || c.empty()) return a + " and " + b;
    return difference(serialized(node.loaded()), serialized(*clone));
  });
}

// Each field of an engine in turn with another length or type, or missing where it is needed.
void check_damage(Report& report, Library& library, const std::string& name, const Fields& fields,
                  const std::vector<Tensor>& inputs, const std::string& required) {
  Node node(library, name, fields, inputs);
  const Fields good = serialized(node.loaded());
  const std::size_t count = Fields(good).all().size();
  const auto refuses = [&](const std::string& what, const Fields& damaged) {
    report.runs(name + " does not load with " + what, [&] {
      library.log().take();
      return refused(create(library, name, damaged, TensorRTPhase::kRUNTIME) == nullptr, library);
    });
  };
  for (std::size_t i = 0; i < count; ++i) {
    Fields damaged = good;
    Fields::Field& field = damaged.all()[i];
    field.data.push_back(0);  // so that there is data, whatever the length
    field.length = field.type == PluginFieldType::kCHAR ? field.length - 1 : 0;
    refuses(field.name + " cut short", damaged);
    damaged = good;
    Fields::Field& doubled = damaged.all()[i];
    if (doubled.type != PluginFieldType::kCHAR) {
      doubled.data.insert(doubled.data.end(), 8, 0);
      doubled.length = 2;
      refuses(doubled.name + " twice as long", damaged);
    }
    damaged = good;
    damaged.all()[i].type = PluginFieldType::kUNKNOWN;
    refuses(damaged.all()[i].name + " as plain bytes", damaged);
  }
  Fields lacking = good;
  for (std::size_t i = 0; i < lacking.all().size(); ++i) {
    if (lacking.all()[i].name == required) lacking.all().erase(lacking.all().begin() + static_cast<std::ptrdiff_t>(i));
  }
  refuses(required + " missing", lacking);
}

void check_workspace(Report& report, Library& library) {
  GemmCase small = rich_gemm(), large = rich_gemm();
  small.lead = {1}, large.lead = {4096};
  report.runs("Nvfp4Gemm declares no less workspace for a larger problem", [&]() -> std::string {
    const Node a(library, GEMM, small.fields(), small.inputs()), b(library, GEMM, large.fields(), large.inputs());
    return a.workspace() <= b.workspace() ? "" : std::to_string(a.workspace()) + " and " + std::to_string(b.workspace());
  });
  report.runs("Nvfp4Gemm does not load with a negative workspace", [&] {
    Node node(library, GEMM, small.fields(), small.inputs());
    Fields fields = serialized(node.loaded());
    for (Fields::Field& field : fields.all()) {
      if (field.name == "workspace_bytes") field.data = Bytes(8, 0xF0);
    }
    library.log().take();
    return refused(create(library, GEMM, fields, TensorRTPhase::kRUNTIME) == nullptr, library);
  });
  report.runs("Nvfp4Gemm loads without a word on its workspace", [&] {
    const PluginPtr plugin = create(library, GEMM, rich_gemm().fields(), TensorRTPhase::kRUNTIME);
    return plugin == nullptr ? "refused" : "";
  });
}

}  // namespace

void check_serialization(Report& report, Library& library) {
  const QuantizeCase c = rich_quantize();
  const GemmCase g = rich_gemm();
  check_round_trip(report, library, QUANTIZE, c.fields(), c.inputs());
  check_round_trip(report, library, GEMM, g.fields(), g.inputs());
  check_damage(report, library, QUANTIZE, c.fields(), c.inputs(), "scaling");
  check_damage(report, library, GEMM, g.fields(), g.inputs(), "dtype");
  check_workspace(report, library);
}

void check_without_gpu(Report& report, Library& library) {
  for (const bool gemm : {false, true}) {
    const std::string name = gemm ? GEMM : QUANTIZE;
    const Fields fields = gemm ? rich_gemm().fields() : rich_quantize().fields();
    const std::vector<Tensor> inputs = gemm ? rich_gemm().inputs() : rich_quantize().inputs();
    Node node(library, name, fields, inputs);
    report.runs(name + " is not attached where no CUDA context is current", [&] {
      ResourceContext context;
      library.log().take();
      return refused(PluginPtr(runtime_of(node.loaded()).attachToContext(&context)) == nullptr, library);
    });
    report.runs(name + " takes no shapes where no CUDA context is current", [&] {
      library.log().take();
      return refused(node.tell(node.loaded()) != 0, library);
    });
    report.runs(name + " is not enqueued before it is attached", [&] {
      const std::vector<const void*> in(node.inputs().size());
      const std::vector<void*> out(node.outputs().size());
      library.log().take();
      return refused(node.enqueue(node.loaded(), in, out, nullptr, nullptr) != 0, library);
    });
  }
}

}  // namespace harness
