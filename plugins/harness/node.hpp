// One plugin node, taken through its life as TensorRT does: created by the builder, configured, serialized,
// created again by the runtime, attached to execution contexts, and enqueued.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gpu.hpp"
#include "tensorrt.hpp"

namespace harness {

using PluginPtr = std::unique_ptr<nvinfer1::IPluginV3>;

nvinfer1::IPluginV3OneBuild& build_of(nvinfer1::IPluginV3& plugin);
nvinfer1::IPluginV3OneRuntime& runtime_of(nvinfer1::IPluginV3& plugin);

// Null where the creator refuses.
PluginPtr create(Library& library, const std::string& name, const Fields& fields,
                 nvinfer1::TensorRTPhase phase = nvinfer1::TensorRTPhase::kBUILD);

class Node {
 public:
  // Builds, serializes and loads again. Throws Failure at the first step that does not work.
  Node(Library& library, const std::string& name, const Fields& fields, std::vector<Tensor> inputs);

  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }
  std::size_t workspace() const { return workspace_; }
  nvinfer1::IPluginV3& loaded() { return *loaded_; }

  // A plugin of an execution context that has been told this node's shapes. Throws Failure.
  PluginPtr attach();
  // Tells a plugin this node's shapes. Returns TensorRT's status.
  std::int32_t tell(nvinfer1::IPluginV3& attached) const;

  // Enqueues on these buffers. Returns TensorRT's status.
  std::int32_t enqueue(nvinfer1::IPluginV3& attached, const std::vector<const void*>& in,
                       const std::vector<void*>& out, void* workspace, CUstream stream) const;

 private:
  void build(const std::string& name, const Fields& fields);

  Library& library_;
  std::vector<Tensor> inputs_, outputs_;
  std::size_t workspace_ = 0;
  PluginPtr loaded_;
};

// A node's buffers in device memory: inputs uploaded, outputs and workspace poisoned.
class Binding {
 public:
  Binding(const Node& node, const std::vector<Bytes>& inputs);

  // Poisons what the node writes.
  void poison();
  std::vector<const void*> in() const;
  std::vector<void*> out() const;
  void* workspace() const { return workspace_.pointer(); }
  std::vector<Bytes> read() const;
  bool guards_intact() const;

 private:
  std::vector<std::unique_ptr<Buffer>> inputs_, outputs_;
  Buffer workspace_;
};

// The whole life, once: what the node writes, given its inputs. Throws Failure.
std::vector<Bytes> run_once(Library& library, const std::string& name, const Fields& fields,
                            const std::vector<Tensor>& inputs, const std::vector<Bytes>& data);

}  // namespace harness
