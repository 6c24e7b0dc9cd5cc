#include "gpu.hpp"

#include <dlfcn.h>

#include <algorithm>

#include "report.hpp"

namespace harness {

namespace {

constexpr std::size_t GUARD = 256;

struct Driver {
  decltype(&::cuInit) init;
  decltype(&::cuDeviceGet) device;
  decltype(&::cuDeviceGetName) device_name;
  decltype(&::cuDevicePrimaryCtxRetain) retain;
  decltype(&::cuDevicePrimaryCtxRelease) release_context;
  decltype(&::cuCtxSetCurrent) set_current;
  decltype(&::cuMemAlloc) allocate;
  decltype(&::cuMemFree) release;
  decltype(&::cuMemsetD8) fill;
  decltype(&::cuMemcpyHtoD) upload;
  decltype(&::cuMemcpyDtoH) download;
  decltype(&::cuCtxSynchronize) synchronize;
  decltype(&::cuStreamCreate) make_stream;
  decltype(&::cuStreamDestroy) destroy_stream;
  decltype(&::cuStreamSynchronize) wait;
  decltype(&::cuStreamBeginCapture) begin_capture;
  decltype(&::cuStreamEndCapture) end_capture;
  decltype(&::cuGraphInstantiateWithFlags) instantiate;
  decltype(&::cuGraphLaunch) launch_graph;
  decltype(&::cuGraphGetNodes) graph_nodes;
  decltype(&::cuGraphDestroy) destroy_graph;
  decltype(&::cuGraphExecDestroy) destroy_executable;
};

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) throw Failure(std::string("libcuda.so.1 has no ") + name);
}

Driver load() {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) throw Failure("there is no NVIDIA driver here; --no-gpu runs the checks that need none");
  Driver d{};
  look_up(library, "cuInit", d.init);
  look_up(library, "cuDeviceGet", d.device);
  look_up(library, "cuDeviceGetName", d.device_name);
  look_up(library, "cuDevicePrimaryCtxRetain", d.retain);
  look_up(library, "cuDevicePrimaryCtxRelease_v2", d.release_context);
  look_up(library, "cuCtxSetCurrent", d.set_current);
  look_up(library, "cuMemAlloc_v2", d.allocate);
  look_up(library, "cuMemFree_v2", d.release);
  look_up(library, "cuMemsetD8_v2", d.fill);
  look_up(library, "cuMemcpyHtoD_v2", d.upload);
  look_up(library, "cuMemcpyDtoH_v2", d.download);
  look_up(library, "cuCtxSynchronize", d.synchronize);
  look_up(library, "cuStreamCreate", d.make_stream);
  look_up(library, "cuStreamDestroy_v2", d.destroy_stream);
  look_up(library, "cuStreamSynchronize", d.wait);
  look_up(library, "cuStreamBeginCapture_v2", d.begin_capture);
  look_up(library, "cuStreamEndCapture", d.end_capture);
  look_up(library, "cuGraphInstantiateWithFlags", d.instantiate);
  look_up(library, "cuGraphLaunch", d.launch_graph);
  look_up(library, "cuGraphGetNodes", d.graph_nodes);
  look_up(library, "cuGraphDestroy", d.destroy_graph);
  look_up(library, "cuGraphExecDestroy", d.destroy_executable);
  return d;
}

const Driver& driver() {
  static const Driver loaded = load();
  return loaded;
}

void check(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) throw Failure(std::string(what) + " failed with CUDA error " + std::to_string(result));
}

}  // namespace

Gpu::Gpu() {
  CUcontext context = nullptr;
  check(driver().init(0), "cuInit");
  check(driver().device(&device_, 0), "cuDeviceGet");
  check(driver().retain(&context, device_), "cuDevicePrimaryCtxRetain");
  check(driver().set_current(context), "cuCtxSetCurrent");
}

Gpu::~Gpu() { driver().release_context(device_); }

std::string Gpu::name() const {
  char name[128] = "";
  check(driver().device_name(name, sizeof name, device_), "cuDeviceGetName");
  return name;
}

Buffer::Buffer(std::size_t bytes) : bytes_(bytes) {
  check(driver().allocate(&memory_, bytes + GUARD), "cuMemAlloc");
  poison();
}

Buffer::Buffer(const Bytes& content) : Buffer(content.size()) {
  if (!content.empty()) check(driver().upload(memory_, content.data(), content.size()), "cuMemcpyHtoD");
  check(driver().synchronize(), "cuCtxSynchronize");
}

Buffer::~Buffer() { driver().release(memory_); }

void Buffer::poison() {
  check(driver().fill(memory_, POISON, bytes_ + GUARD), "cuMemsetD8");
  check(driver().synchronize(), "cuCtxSynchronize");
}

Bytes Buffer::read() const {
  Bytes content(bytes_);
  if (bytes_ > 0) check(driver().download(content.data(), memory_, bytes_), "cuMemcpyDtoH");
  return content;
}

bool Buffer::guard_intact() const {
  Bytes guard(GUARD);
  check(driver().download(guard.data(), memory_ + bytes_, GUARD), "cuMemcpyDtoH");
  return std::all_of(guard.begin(), guard.end(), [](std::uint8_t byte) { return byte == POISON; });
}

Stream::Stream() { check(driver().make_stream(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate"); }
Stream::~Stream() { driver().destroy_stream(stream_); }
void Stream::wait() const { check(driver().wait(stream_), "cuStreamSynchronize"); }

void Graph::begin(const Stream& stream) {
  check(driver().begin_capture(stream.handle(), CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
}

Graph::Graph(const Stream& stream) {
  check(driver().end_capture(stream.handle(), &graph_), "cuStreamEndCapture");
  check(driver().instantiate(&executable_, graph_, 0), "cuGraphInstantiate");
}

Graph::~Graph() {
  driver().destroy_executable(executable_);
  driver().destroy_graph(graph_);
}

void Graph::launch(const Stream& stream) const {
  check(driver().launch_graph(executable_, stream.handle()), "cuGraphLaunch");
}

std::size_t Graph::nodes() const {
  std::size_t count = 0;
  check(driver().graph_nodes(graph_, nullptr, &count), "cuGraphGetNodes");
  return count;
}

}  // namespace harness
