#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

constexpr int REPETITIONS = 100;

// A node with its data: what every check here runs.
struct Subject {
  std::string name, text;
  Fields fields;
  std::vector<Tensor> inputs;
  std::vector<Bytes> data;
};

Subject quantize_subject(Mode mode, const std::string& function, const Shape& shape) {
  QuantizeCase c;
  c.mode = mode, c.function = function, c.shape = shape;
  Random random(77);
  return Subject{QUANTIZE, "quantize " + c.text(), c.fields(), c.inputs(), QuantizeData(c, random).bytes(c)};
}

Subject gemm_subject(std::int64_t m, std::int64_t n, std::int64_t k) {
  GemmCase c;
  c.lead = {m}, c.n = n, c.k = k, c.bias = c.alpha_per_row = true;
  Random random(78);
  return Subject{GEMM, "gemm " + c.text(), c.fields(), c.inputs(), GemmData(c, random).bytes(c)};
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  for (Mode mode : MODES) all.push_back(quantize_subject(mode, "none", {300, 4096}));
  all.push_back(quantize_subject(Mode::TENSOR, "rms_norm", {300, 4096}));
  all.push_back(quantize_subject(Mode::TENSOR, "silu_mul", {20, 512}));
  all.push_back(gemm_subject(4, 256, 8192));
  all.push_back(gemm_subject(200, 256, 512));
  return all;
}

void need(std::int32_t status, const char* what) {
  if (status != 0) throw Failure(std::string(what) + " failed");
}

// Captured once, replayed three times on poisoned outputs.
std::string run_graph(Library& library, const Subject& s, const std::vector<Bytes>& wanted) {
  Node node(library, s.name, s.fields, s.inputs);
  Binding binding(node, s.data);
  const Stream stream;
  const PluginPtr attached = node.attach();
  Graph::begin(stream);
  const std::int32_t status = node.enqueue(*attached, binding.in(), binding.out(), binding.workspace(), stream.handle());
  const Graph graph(stream);
  need(status, "enqueue");
  if (graph.nodes() != 1) return "the graph has " + std::to_string(graph.nodes()) + " nodes instead of one";
  for (int i = 0; i < 3; ++i) {
    binding.poison();
    graph.launch(stream);
    stream.wait();
    if (binding.read() != wanted) return "replay " + std::to_string(i) + " differs";
  }
  return binding.guards_intact() ? "" : "something was written behind the end of a buffer";
}

// Two execution contexts, each on a stream of its own, both busy at once.
std::string run_two_contexts(Library& library, const Subject& s, const std::vector<Bytes>& wanted) {
  Node node(library, s.name, s.fields, s.inputs);
  Binding first(node, s.data), second(node, s.data);
  const Stream one, other;
  const PluginPtr a = node.attach(), b = node.attach();
  for (int i = 0; i < 30; ++i) {
    need(node.enqueue(*a, first.in(), first.out(), first.workspace(), one.handle()), "enqueue");
    need(node.enqueue(*b, second.in(), second.out(), second.workspace(), other.handle()), "enqueue");
  }
  one.wait();
  other.wait();
  return first.read() == wanted && second.read() == wanted ? "" : "the results differ";
}

std::string run_repeatedly(Library& library, const Subject& s, const std::vector<Bytes>& wanted) {
  Node node(library, s.name, s.fields, s.inputs);
  Binding binding(node, s.data);
  const Stream stream;
  const PluginPtr attached = node.attach();
  for (int i = 0; i < REPETITIONS; ++i) {
    binding.poison();
    need(node.enqueue(*attached, binding.in(), binding.out(), binding.workspace(), stream.handle()), "enqueue");
    stream.wait();
    if (binding.read() != wanted) return "run " + std::to_string(i) + " differs";
  }
  return "";
}

// One attached plugin, told one shape after another: each gives what a plugin of its own gives.
std::string run_shapes(Library& library, const std::vector<Subject>& sizes) {
  std::vector<std::unique_ptr<Node>> nodes;
  std::size_t workspace = 0;
  for (const Subject& s : sizes) {
    nodes.push_back(std::make_unique<Node>(library, s.name, s.fields, s.inputs));
    workspace = std::max(workspace, nodes.back()->workspace());
  }
  const Buffer shared(workspace);
  const Stream stream;
  const PluginPtr attached = nodes[0]->attach();
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      Binding binding(*nodes[i], sizes[i].data);
      if (round == 0) need(nodes[i]->tell(*attached), "onShapeChange");
      need(nodes[i]->enqueue(*attached, binding.in(), binding.out(), shared.pointer(), stream.handle()), "enqueue");
      stream.wait();
      const Subject& s = sizes[i];
      if (binding.read() != run_once(library, s.name, s.fields, s.inputs, s.data)) return s.text + " differs";
    }
  }
  return "";
}

// No rows: nothing but the scale is written, and that is 1 or the given one.
std::string run_empty(Library& library, const Subject& s, const Bytes& alpha) {
  std::vector<Bytes> data = s.data;
  const std::vector<Bytes> found = run_once(library, s.name, s.fields, s.inputs, data);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != (i == 2 ? alpha : Bytes())) return "output " + std::to_string(i) + " is wrong";
  }
  return "";
}

}  // namespace

void check_contexts(Report& report, Library& library) {
  for (const Subject& s : subjects()) {
    const std::vector<Bytes> wanted = run_once(library, s.name, s.fields, s.inputs, s.data);
    report.runs("one kernel in a CUDA graph, replayed: " + s.text, [&] { return run_graph(library, s, wanted); });
    report.runs("two contexts at once: " + s.text, [&] { return run_two_contexts(library, s, wanted); });
    report.runs("the same in " + std::to_string(REPETITIONS) + " runs: " + s.text,
                [&] { return run_repeatedly(library, s, wanted); });
  }
  for (Mode mode : MODES) {
    std::vector<Subject> sizes;
    for (const Shape& shape : {Shape{300, 1024}, Shape{1, 4096}, Shape{2000, 1024}, Shape{8, 64}}) {
      sizes.push_back(quantize_subject(mode, "none", shape));
    }
    report.runs(std::string("changing shapes: quantize ") + name_of(mode), [&] { return run_shapes(library, sizes); });
    const Bytes alpha = mode == Mode::TOKEN ? Bytes() : encode({mode == Mode::STATIC ? STATIC_SCALE : 1.0f}, Type::F32);
    report.runs(std::string("no rows: quantize ") + name_of(mode),
                [&] { return run_empty(library, quantize_subject(mode, "none", {0, 64}), alpha); });
  }
  report.runs("changing shapes: gemm", [&] {
    return run_shapes(library, {gemm_subject(512, 256, 4096), gemm_subject(1, 256, 4096), gemm_subject(20, 64, 8192)});
  });
  report.runs("no rows: gemm", [&] { return run_empty(library, gemm_subject(0, 64, 64), Bytes()); });
}

}  // namespace harness
