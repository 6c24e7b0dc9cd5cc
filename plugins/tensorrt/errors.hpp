// The one exception of this library. It never leaves it: the plugins' methods turn it into a log line and
// TensorRT's error path.
#pragma once

#include <stdexcept>
#include <string>

namespace nvfp4 {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace nvfp4
