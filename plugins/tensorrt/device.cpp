#include "device.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace nvfp4 {

namespace {

CUcontext current_context() {
  CUcontext context = nullptr;
  check(driver().current_context(&context), "cuCtxGetCurrent");
  if (context == nullptr) throw Error("no CUDA context is current: call cudaSetDevice first");
  return context;
}

int attribute(CUdevice_attribute which) {
  CUdevice device = 0;
  int value = 0;
  check(driver().current_device(&device), "cuCtxGetDevice");
  check(driver().device_attribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

int architecture() {
  return 10 * attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
         attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

// All plugins of a context share the cubins that are loaded in it.
std::shared_ptr<const Module> shared_module(CUcontext context, const Cubin& cubin, int shared_bytes) {
  static std::mutex mutex;
  static std::map<std::pair<CUcontext, const Cubin*>, std::weak_ptr<const Module>> loaded;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<const Module>& slot = loaded[{context, &cubin}];
  std::shared_ptr<const Module> module = slot.lock();
  if (module == nullptr) {
    module = std::make_shared<const Module>(context, cubin, shared_bytes);
    slot = module;
  }
  return module;
}

}  // namespace

Module::Module(CUcontext context, const Cubin& cubin, int shared_bytes) : context_(context) {
  const CurrentContext current(context);
  check(driver().load_module(&module_, cubin.data), (std::string("loading ") + cubin.file).c_str());
  try {
    for (int i = 0; i < cubin.entry_count; ++i) {
      const Entry& entry = cubin.entries[i];
      CUfunction& function = functions_[entry.name];
      check(driver().get_function(&function, module_, entry.name), entry.name);
      check(driver().set_function_attribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                            std::max(0, shared_bytes - entry.shared_bytes)),
            "allowing for shared memory");
    }
  } catch (...) {
    driver().unload_module(module_);
    throw;
  }
}

// A context that is gone took its modules and memory along: then there is nothing to release, and no one to tell.
Module::~Module() {
  try {
    const CurrentContext current(context_);
    driver().unload_module(module_);
  } catch (const Error&) {
  }
}

CUfunction Module::function(const std::string& entry) const {
  const auto found = functions_.find(entry);
  if (found == functions_.end()) throw Error("the cubin has no entry " + entry);
  return found->second;
}

CUfunction Module::only_function() const {
  if (functions_.size() != 1) throw Error("the cubin has " + std::to_string(functions_.size()) + " entries, not one");
  return functions_.begin()->second;
}

State::State(CUcontext context) : context_(context) {
  check(driver().allocate(&memory_, STATE_BYTES), "cuMemAlloc");
  const CUresult filled = driver().fill(memory_, 0, STATE_BYTES);
  // The streams that will use it need not wait for the default stream.
  const CUresult waited = filled == CUDA_SUCCESS ? driver().synchronize() : filled;
  if (waited != CUDA_SUCCESS) {
    driver().release(memory_);
    check(waited, "zeroing the state memory");
  }
}

State::~State() {
  try {
    const CurrentContext current(context_);
    driver().release(memory_);
  } catch (const Error&) {
  }
}

Device::Device()
    : context_(current_context()),
      sm_(architecture()),
      limits_{attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
              attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)} {}

const State& Device::state() {
  if (state_ == nullptr) state_ = std::make_unique<State>(context_);
  return *state_;
}

const Module& Device::module(const Cubin& cubin) {
  std::shared_ptr<const Module>& slot = modules_[&cubin];
  if (slot == nullptr) slot = shared_module(context_, cubin, limits_.shared_bytes);
  return *slot;
}

void launch(CUfunction function, const Launch& how, void** parameters, CUstream stream) {
  CUlaunchAttribute cooperative{};
  cooperative.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  cooperative.value.cooperative = 1;
  CUlaunchConfig config{};
  config.gridDimX = static_cast<unsigned>(how.grid_x);
  config.gridDimY = static_cast<unsigned>(how.grid_y);
  config.gridDimZ = 1;
  config.blockDimX = static_cast<unsigned>(how.block);
  config.blockDimY = 1;
  config.blockDimZ = 1;
  config.sharedMemBytes = static_cast<unsigned>(how.shared_bytes);
  config.hStream = stream;
  config.attrs = how.cooperative ? &cooperative : nullptr;
  config.numAttrs = how.cooperative ? 1 : 0;
  check(driver().launch(&config, function, parameters, nullptr), "cuLaunchKernelEx");
}

}  // namespace nvfp4
