// Drives libnvfp4_plugin.so through the whole life of its plugins, without TensorRT's libraries.
//
//   harness libnvfp4_plugin.so [--without OTHER.so] [--no-gpu]
//
// OTHER.so: the same library, built from a pack that has no cubins for the GPU at hand.
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "checks.hpp"
#include "gpu.hpp"

namespace {

struct Options {
  std::string library, without;
  bool gpu = true;
};

Options options_of(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--no-gpu") {
      options.gpu = false;
    } else if (word == "--without" && i + 1 < count) {
      options.without = words[++i];
    } else if (options.library.empty() && word.rfind("--", 0) != 0) {
      options.library = word;
    } else {
      throw harness::Failure("what is " + word + "?");
    }
  }
  if (options.library.empty()) throw harness::Failure("harness libnvfp4_plugin.so [--without OTHER.so] [--no-gpu]");
  return options;
}

void run(const Options& options, harness::Report& report) {
  harness::Library library(options.library);
  harness::check_codec(report);
  harness::check_creation(report, library);
  harness::check_build(report, library);
  harness::check_serialization(report, library);
  harness::check_without_gpu(report, library);
  if (!options.gpu) return;
  const harness::Gpu gpu;
  std::printf("on %s\n", gpu.name().c_str());
  harness::check_quantize(report, library);
  harness::check_functions(report, library);
  harness::check_gemm(report, library);
  harness::check_contexts(report, library);
  harness::check_run_refusals(report, library);
  if (!options.without.empty()) {
    harness::Library without(options.without);
    harness::check_missing_cubins(report, without);
  }
}

}  // namespace

int main(int count, char** words) {
  harness::Report report;
  bool finished = false;
  try {
    run(options_of(count, words), report);
    finished = true;
  } catch (const std::exception& error) {
    std::printf("stopped: %s\n", error.what());
  }
  std::printf("%d of %d checks hold%s\n", report.held(), report.total(), finished ? "" : ", and there are more");
  return finished && report.held() == report.total() ? 0 : 1;
}
