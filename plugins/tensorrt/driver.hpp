// The CUDA driver, looked up at run time: this library links neither to it nor to the CUDA runtime, so that it
// loads on a machine without a GPU.
#pragma once

#include <cuda.h>

#include <string>

#include "errors.hpp"

namespace nvfp4 {

struct Driver {
  decltype(&::cuInit) init;
  decltype(&::cuGetErrorName) error_name;
  decltype(&::cuGetErrorString) error_text;
  decltype(&::cuCtxGetCurrent) current_context;
  decltype(&::cuCtxGetDevice) current_device;
  decltype(&::cuCtxPushCurrent) push_context;
  decltype(&::cuCtxPopCurrent) pop_context;
  decltype(&::cuDeviceGetAttribute) device_attribute;
  decltype(&::cuModuleLoadData) load_module;
  decltype(&::cuModuleUnload) unload_module;
  decltype(&::cuModuleGetFunction) get_function;
  decltype(&::cuFuncSetAttribute) set_function_attribute;
  decltype(&::cuLaunchKernelEx) launch;
  decltype(&::cuMemAlloc) allocate;
  decltype(&::cuMemFree) release;
  decltype(&::cuMemsetD8) fill;
  decltype(&::cuMemsetD32Async) fill_words_async;
  decltype(&::cuMemcpyDtoDAsync) copy_async;
  decltype(&::cuCtxSynchronize) synchronize;
};

// Throws Error where there is no driver, or none that is new enough.
const Driver& driver();

// Throws Error, naming `what` and the driver's own words, unless `result` is success.
void check(CUresult result, const char* what);

// Makes a context current for as long as this lives.
class CurrentContext {
 public:
  explicit CurrentContext(CUcontext context);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
};

}  // namespace nvfp4
