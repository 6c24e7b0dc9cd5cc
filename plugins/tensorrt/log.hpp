// Messages for whoever uses TensorRT: through its logger where it gave us one, else to standard error.
#pragma once

#include <NvInferRuntime.h>

#include <string>

namespace nvfp4 {

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;
void log_error(const char* plugin, const char* message) noexcept;

// Runs `body`; where it throws, logs the message and returns `failure` instead of what it would have.
template <class Result, class Body>
Result guarded(const char* plugin, Result failure, Body&& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    log_error(plugin, error.what());
  } catch (...) {
    log_error(plugin, "an exception of an unknown type");
  }
  return failure;
}

}  // namespace nvfp4
