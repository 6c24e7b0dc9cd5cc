// What a plugin needs of the GPU that it is attached to: its limits, loaded cubins, and memory that the kernels
// keep between launches.
#pragma once

#include <cuda.h>

#include <map>
#include <memory>
#include <string>

#include "driver.hpp"
#include "launch.hpp"
#include "pack.hpp"

namespace nvfp4 {

// A cubin in a CUDA context, unloaded with its last user.
class Module {
 public:
  Module(CUcontext context, const Cubin& cubin, int shared_bytes);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  CUfunction function(const std::string& entry) const;  // throws Error where the cubin has no such entry
  CUfunction only_function() const;

 private:
  CUcontext context_;
  CUmodule module_ = nullptr;
  std::map<std::string, CUfunction> functions_;
};

// Zeroed device memory of STATE_BYTES. The kernels leave it as the next launch of the same stream needs it.
class State {
 public:
  explicit State(CUcontext context);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  CUdeviceptr barrier() const { return memory_; }
  CUdeviceptr counters() const { return memory_ + COUNTERS_OFFSET; }

 private:
  CUcontext context_;
  CUdeviceptr memory_ = 0;
};

// The GPU of the current CUDA context, as one attached plugin sees it.
class Device {
 public:
  Device();  // throws Error where there is no driver or no current context

  int sm() const { return sm_; }
  const DeviceLimits& limits() const { return limits_; }
  // Makes the state memory unless it is made; like `module`, not while a stream is being captured.
  const State& state();
  // Loads the cubin unless it is loaded: never to be called while a stream is being captured.
  const Module& module(const Cubin& cubin);

 private:
  CUcontext context_;
  int sm_;
  DeviceLimits limits_;
  std::unique_ptr<State> state_;
  std::map<const Cubin*, std::shared_ptr<const Module>> modules_;
};

// Launches `function` with the kernel's parameters given one pointer each. Neither allocates nor waits.
void launch(CUfunction function, const Launch& how, void** parameters, CUstream stream);

}  // namespace nvfp4
