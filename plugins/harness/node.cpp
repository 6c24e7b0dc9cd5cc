#include "node.hpp"

#include <utility>

#include "report.hpp"

namespace harness {

namespace {

using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;

void need(bool outcome, const std::string& step, Library& library) {
  if (outcome) return;
  std::string message = step + " failed";
  for (const std::string& line : library.log().take()) message += ": " + line;
  throw Failure(message);
}

std::vector<PluginTensorDesc> descs_of(const std::vector<Tensor>& tensors) {
  std::vector<PluginTensorDesc> descs;
  for (const Tensor& tensor : tensors) descs.push_back(desc_of(tensor));
  return descs;
}

std::vector<DynamicPluginTensorDesc> dynamic_descs_of(const std::vector<Tensor>& tensors) {
  std::vector<DynamicPluginTensorDesc> descs;
  for (const Tensor& tensor : tensors) descs.push_back(dynamic_desc_of(tensor));
  return descs;
}

std::vector<Tensor> outputs_of(nvinfer1::IPluginV3OneBuild& build, const std::vector<Tensor>& inputs,
                               Library& library) {
  const auto count = static_cast<std::int32_t>(inputs.size()), made = build.getNbOutputs();
  std::vector<DataType> in_types, out_types(static_cast<std::size_t>(made));
  Evaluator evaluator;
  std::vector<nvinfer1::DimsExprs> in_dims, out_dims(static_cast<std::size_t>(made));
  for (const Tensor& tensor : inputs) {
    in_types.push_back(tensor.type);
    in_dims.push_back(evaluator.expressions_of(tensor.shape));
  }
  need(build.getOutputDataTypes(out_types.data(), made, in_types.data(), count) == 0, "getOutputDataTypes", library);
  need(build.getOutputShapes(in_dims.data(), count, nullptr, 0, out_dims.data(), made, evaluator) == 0,
       "getOutputShapes", library);
  std::vector<Tensor> outputs;
  for (std::size_t i = 0; i < out_types.size(); ++i) {
    outputs.push_back(Tensor{out_types[i], Evaluator::shape_of(out_dims[i])});
  }
  return outputs;
}

}  // namespace

nvinfer1::IPluginV3OneBuild& build_of(nvinfer1::IPluginV3& plugin) {
  auto* const found = plugin.getCapabilityInterface(PluginCapabilityType::kBUILD);
  if (found == nullptr) throw Failure("there is no build capability");
  return *static_cast<nvinfer1::IPluginV3OneBuild*>(found);
}

nvinfer1::IPluginV3OneRuntime& runtime_of(nvinfer1::IPluginV3& plugin) {
  auto* const found = plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME);
  if (found == nullptr) throw Failure("there is no runtime capability");
  return *static_cast<nvinfer1::IPluginV3OneRuntime*>(found);
}

PluginPtr create(Library& library, const std::string& name, const Fields& fields, TensorRTPhase phase) {
  const nvinfer1::PluginFieldCollection collection = fields.collection();
  return PluginPtr(library.creator(name).createPlugin("harness", &collection, phase));
}

Node::Node(Library& library, const std::string& name, const Fields& fields, std::vector<Tensor> inputs)
    : library_(library), inputs_(std::move(inputs)) {
  build(name, fields);
}

void Node::build(const std::string& name, const Fields& fields) {
  const PluginPtr first = create(library_, name, fields);
  need(first != nullptr, "createPlugin (build)", library_);
  // The builder works on a clone.
  const PluginPtr plugin(first->clone());
  need(plugin != nullptr, "clone", library_);
  nvinfer1::IPluginV3OneBuild& build = build_of(*plugin);
  outputs_ = outputs_of(build, inputs_, library_);
  const std::vector<DynamicPluginTensorDesc> in = dynamic_descs_of(inputs_), out = dynamic_descs_of(outputs_);
  std::vector<DynamicPluginTensorDesc> all = in;
  all.insert(all.end(), out.begin(), out.end());
  const auto ins = static_cast<std::int32_t>(in.size()), outs = static_cast<std::int32_t>(out.size());
  for (std::int32_t i = 0; i < ins + outs; ++i) {
    need(build.supportsFormatCombination(i, all.data(), ins, outs), "supportsFormatCombination", library_);
  }
  need(build.configurePlugin(in.data(), ins, out.data(), outs) == 0, "configurePlugin", library_);
  workspace_ = build.getWorkspaceSize(in.data(), ins, out.data(), outs);
  const nvinfer1::PluginFieldCollection* const written = runtime_of(*plugin).getFieldsToSerialize();
  need(written != nullptr, "getFieldsToSerialize", library_);
  loaded_ = create(library_, name, Fields::copied(*written), TensorRTPhase::kRUNTIME);
  need(loaded_ != nullptr, "createPlugin (runtime)", library_);
}

PluginPtr Node::attach() {
  ResourceContext context;
  PluginPtr attached(runtime_of(*loaded_).attachToContext(&context));
  need(attached != nullptr, "attachToContext", library_);
  need(tell(*attached) == 0, "onShapeChange", library_);
  return attached;
}

std::int32_t Node::tell(nvinfer1::IPluginV3& attached) const {
  const std::vector<PluginTensorDesc> in = descs_of(inputs_), out = descs_of(outputs_);
  return runtime_of(attached).onShapeChange(in.data(), static_cast<std::int32_t>(in.size()), out.data(),
                                            static_cast<std::int32_t>(out.size()));
}

std::int32_t Node::enqueue(nvinfer1::IPluginV3& attached, const std::vector<const void*>& in,
                           const std::vector<void*>& out, void* workspace, CUstream stream) const {
  const std::vector<PluginTensorDesc> in_descs = descs_of(inputs_), out_descs = descs_of(outputs_);
  return runtime_of(attached).enqueue(in_descs.data(), out_descs.data(), in.data(), out.data(), workspace,
                                      stream);
}

Binding::Binding(const Node& node, const std::vector<Bytes>& inputs) : workspace_(node.workspace()) {
  for (const Bytes& input : inputs) inputs_.push_back(std::make_unique<Buffer>(input));
  for (const Tensor& output : node.outputs()) {
    const std::size_t count = static_cast<std::size_t>(volume(output.shape));
    outputs_.push_back(std::make_unique<Buffer>(count * size_of(output.type)));
  }
}

void Binding::poison() {
  for (const auto& output : outputs_) output->poison();
  workspace_.poison();
}

std::vector<const void*> Binding::in() const {
  std::vector<const void*> pointers;
  for (const auto& input : inputs_) pointers.push_back(input->pointer());
  return pointers;
}

std::vector<void*> Binding::out() const {
  std::vector<void*> pointers;
  for (const auto& output : outputs_) pointers.push_back(output->pointer());
  return pointers;
}

std::vector<Bytes> Binding::read() const {
  std::vector<Bytes> all;
  for (const auto& output : outputs_) all.push_back(output->read());
  return all;
}

bool Binding::guards_intact() const {
  for (const auto& buffer : inputs_) {
    if (!buffer->guard_intact()) return false;
  }
  for (const auto& buffer : outputs_) {
    if (!buffer->guard_intact()) return false;
  }
  return workspace_.guard_intact();
}

std::vector<Bytes> run_once(Library& library, const std::string& name, const Fields& fields,
                            const std::vector<Tensor>& inputs, const std::vector<Bytes>& data) {
  Node node(library, name, fields, inputs);
  Binding binding(node, data);
  const Stream stream;
  const PluginPtr attached = node.attach();
  need(node.enqueue(*attached, binding.in(), binding.out(), binding.workspace(), stream.handle()) == 0, "enqueue", library);
  stream.wait();
  if (!binding.guards_intact()) throw Failure("something was written behind the end of a buffer");
  return binding.read();
}

}  // namespace harness
