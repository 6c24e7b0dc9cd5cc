// Loads an engine whose layers are this project's plugins, runs it in a CUDA graph, and prints how long it takes.
//
//   run_engine ENGINE LIBNVFP4_PLUGIN.SO [TENSOR=2x128x768 ...]
//
// Each input gets the shape that is given for it, or else the one that its profile was tuned for, and zeros.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int RUNS = 100;

class Logger final : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "%s\n", message);
  }
};

void check(bool outcome, const std::string& what) {
  if (!outcome) throw std::runtime_error(what + " failed");
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

std::vector<char> read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), std::string("opening ") + path);
  return std::vector<char>(std::istreambuf_iterator<char>(file), {});
}

nvinfer1::Dims dims_from(const std::string& text) {
  nvinfer1::Dims dims{};
  std::istringstream in(text);
  for (std::string extent; std::getline(in, extent, 'x');) {
    check(dims.nbDims < nvinfer1::Dims::MAX_DIMS, "reading the shape " + text);
    dims.d[dims.nbDims++] = std::stoll(extent);
  }
  return dims;
}

std::map<std::string, nvinfer1::Dims> shapes_from(int count, char** words) {
  std::map<std::string, nvinfer1::Dims> shapes;
  for (int i = 3; i < count; ++i) {
    const std::string word = words[i];
    const std::size_t equals = word.find('=');
    check(equals != std::string::npos, "reading " + word);
    shapes[word.substr(0, equals)] = dims_from(word.substr(equals + 1));
  }
  return shapes;
}

void set_input_shapes(const nvinfer1::ICudaEngine& engine, nvinfer1::IExecutionContext& context,
                      const std::map<std::string, nvinfer1::Dims>& given) {
  for (int i = 0; i < engine.getNbIOTensors(); ++i) {
    const char* const name = engine.getIOTensorName(i);
    if (engine.getTensorIOMode(name) != nvinfer1::TensorIOMode::kINPUT) continue;
    const auto found = given.find(name);
    const nvinfer1::Dims dims = found != given.end()
                                    ? found->second
                                    : engine.getProfileShape(name, 0, nvinfer1::OptProfileSelector::kOPT);
    check(context.setInputShape(name, dims), std::string("setting the shape of ") + name);
  }
}

struct Release {
  void operator()(void* memory) const { cudaFree(memory); }
};
using Memory = std::unique_ptr<void, Release>;

// One allocation for each input and output: as large as TensorRT may need it.
std::vector<Memory> bind(const nvinfer1::ICudaEngine& engine, nvinfer1::IExecutionContext& context) {
  std::vector<Memory> memory;
  for (int i = 0; i < engine.getNbIOTensors(); ++i) {
    const char* const name = engine.getIOTensorName(i);
    const nvinfer1::Dims dims = context.getTensorShape(name);
    std::int64_t bytes = 8;  // of the widest data type
    for (int d = 0; d < dims.nbDims; ++d) bytes *= dims.d[d];
    void* pointer = nullptr;
    check(cudaMalloc(&pointer, static_cast<std::size_t>(bytes)), "cudaMalloc");
    memory.emplace_back(pointer);
    check(cudaMemset(pointer, 0, static_cast<std::size_t>(bytes)), "cudaMemset");
    check(context.setTensorAddress(name, pointer), std::string("binding ") + name);
  }
  return memory;
}

float median_milliseconds(nvinfer1::IExecutionContext& context, cudaStream_t stream) {
  // Once outside of the graph: only then do all shapes and kernels stand.
  check(context.enqueueV3(stream), "enqueueV3");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  check(context.enqueueV3(stream), "enqueueV3");
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int i = 0; i < RUNS; ++i) {
    check(cudaEventRecord(begin, stream), "cudaEventRecord");
    check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    check(cudaEventRecord(end, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end), "cudaEventSynchronize");
    times.push_back(0.0f);
    check(cudaEventElapsedTime(&times.back(), begin, end), "cudaEventElapsedTime");
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int run(int count, char** words) {
  check(count >= 3, "run_engine ENGINE LIBNVFP4_PLUGIN.SO [TENSOR=2x128x768 ...]: reading the command");
  Logger logger;
  const std::vector<char> bytes = read_file(words[1]);
  const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
  check(runtime != nullptr, "createInferRuntime");
  // The plugins' creators must be there before the engine is read.
  check(runtime->getPluginRegistry().loadLibrary(words[2]) != nullptr, std::string("loading ") + words[2]);
  const std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(bytes.data(), bytes.size()));
  check(engine != nullptr, "deserializeCudaEngine");
  const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
  check(context != nullptr, "createExecutionContext");
  set_input_shapes(*engine, *context, shapes_from(count, words));
  const std::vector<Memory> memory = bind(*engine, *context);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  std::printf("median of %d runs: %.4f ms\n", RUNS, static_cast<double>(median_milliseconds(*context, stream)));
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run(count, words);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_engine: %s\n", error.what());
    return 1;
  }
}
