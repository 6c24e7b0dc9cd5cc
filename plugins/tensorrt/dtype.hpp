// The element types that kernels are compiled for, named as the kernel pack names them.
#pragma once

#include <cstddef>
#include <string>

#include "errors.hpp"

namespace nvfp4 {

enum class Dtype { F16, BF16, F32 };  // the order of NVFP4_T in the kernels

inline const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F16: return "f16";
    case Dtype::BF16: return "bf16";
    case Dtype::F32: return "f32";
  }
  return "?";
}

inline std::size_t size_of(Dtype dtype) { return dtype == Dtype::F32 ? 4 : 2; }

inline Dtype dtype_named(const std::string& name) {
  for (Dtype dtype : {Dtype::F16, Dtype::BF16, Dtype::F32}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw Error("no dtype is named '" + name + "'");
}

}  // namespace nvfp4
