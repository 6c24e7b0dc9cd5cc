#include "driver.hpp"

#include <dlfcn.h>

namespace nvfp4 {

namespace {

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw Error(std::string("libcuda.so.1 has no ") + name + ": the driver is too old");
}

Driver load() {
  // Never closed: contexts and modules live in it for as long as the process does.
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error("libcuda.so.1 cannot be loaded: there is no NVIDIA driver here");
  Driver driver{};
  // Where cuda.h gives a function's name a newer version by a macro, the version stands in the name here.
  look_up(library, "cuInit", driver.init);
  look_up(library, "cuGetErrorName", driver.error_name);
  look_up(library, "cuGetErrorString", driver.error_text);
  look_up(library, "cuCtxGetCurrent", driver.current_context);
  look_up(library, "cuCtxGetDevice", driver.current_device);
  look_up(library, "cuCtxPushCurrent_v2", driver.push_context);
  look_up(library, "cuCtxPopCurrent_v2", driver.pop_context);
  look_up(library, "cuDeviceGetAttribute", driver.device_attribute);
  look_up(library, "cuModuleLoadData", driver.load_module);
  look_up(library, "cuModuleUnload", driver.unload_module);
  look_up(library, "cuModuleGetFunction", driver.get_function);
  look_up(library, "cuFuncSetAttribute", driver.set_function_attribute);
  look_up(library, "cuLaunchKernelEx", driver.launch);
  look_up(library, "cuMemAlloc_v2", driver.allocate);
  look_up(library, "cuMemFree_v2", driver.release);
  look_up(library, "cuMemsetD8_v2", driver.fill);
  look_up(library, "cuMemsetD32Async", driver.fill_words_async);
  look_up(library, "cuMemcpyDtoDAsync_v2", driver.copy_async);
  look_up(library, "cuCtxSynchronize", driver.synchronize);
  return driver;
}

std::string words_for(const Driver& driver, CUresult result) {
  const char *name = nullptr, *text = nullptr;
  driver.error_name(result, &name);
  driver.error_text(result, &text);
  return std::string(name == nullptr ? "an unknown error" : name) + (text == nullptr ? "" : std::string(": ") + text);
}

}  // namespace

const Driver& driver() {
  // A failed initialization is tried again by the next call: nothing is kept of it.
  static const Driver loaded = [] {
    const Driver found = load();
    const CUresult result = found.init(0);
    if (result != CUDA_SUCCESS) throw Error("cuInit failed with " + words_for(found, result));
    return found;
  }();
  return loaded;
}

void check(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) throw Error(std::string(what) + " failed with " + words_for(driver(), result));
}

CurrentContext::CurrentContext(CUcontext context) { check(driver().push_context(context), "cuCtxPushCurrent"); }

CurrentContext::~CurrentContext() {
  CUcontext popped = nullptr;
  driver().pop_context(&popped);
}

}  // namespace nvfp4
