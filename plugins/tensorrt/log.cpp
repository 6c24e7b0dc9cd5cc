#include "log.hpp"

#include <atomic>
#include <cstdio>

namespace nvfp4 {

namespace {

std::atomic<nvinfer1::ILoggerFinder*> finder{nullptr};

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* given) noexcept { finder = given; }

void log_error(const char* plugin, const char* message) noexcept {
  try {
    const std::string line = std::string(plugin) + ": " + message;
    nvinfer1::ILoggerFinder* const found = finder;
    nvinfer1::ILogger* const logger = found == nullptr ? nullptr : found->findLogger();
    if (logger != nullptr) {
      logger->log(nvinfer1::ILogger::Severity::kERROR, line.c_str());
      return;
    }
  } catch (...) {  // no memory for the line, or a finder that throws: the message itself still goes out
  }
  std::fprintf(stderr, "%s: %s\n", plugin, message);
}

}  // namespace nvfp4
