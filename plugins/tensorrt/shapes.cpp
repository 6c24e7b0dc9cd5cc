#include "shapes.hpp"

#include <limits>
#include <map>

namespace nvfp4 {

namespace {

using Named = std::map<std::string, Shape>;

[[noreturn]] void misfit(const std::string& name, const Shape& shape, const std::string& wanted) {
  throw Error(name + " has the shape " + text_of(shape) + "; it must be " + wanted);
}

std::int64_t volume(const Shape& shape) {
  std::int64_t product = 1;
  for (std::int64_t extent : shape) product *= extent;
  return product;
}

Named name_inputs(const std::vector<std::string>& names, const std::vector<Shape>& inputs) {
  if (names.size() != inputs.size()) {
    throw Error("there are " + std::to_string(inputs.size()) + " inputs; by the attributes there are " +
                std::to_string(names.size()));
  }
  Named named;
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (std::int64_t extent : inputs[i]) {
      if (extent < 0) misfit(names[i], inputs[i], "known");
    }
    named[names[i]] = inputs[i];
  }
  return named;
}

// The product of all extents but the last: the kernels see a matrix.
std::int64_t rows_of(const std::string& name, const Shape& shape) {
  const std::int64_t rows = volume(Shape(shape.begin(), shape.end() - 1));
  if (rows > std::numeric_limits<std::int32_t>::max()) misfit(name, shape, "of fewer than 2^31 rows");
  return rows;
}

void check_volume(const Named& named, const std::string& name, std::int64_t wanted, bool or_one) {
  const auto found = named.find(name);
  if (found == named.end()) return;
  const std::int64_t count = volume(found->second);
  if (count == wanted || (or_one && count == 1)) return;
  misfit(name, found->second, (or_one ? "of 1 or " : "of ") + std::to_string(wanted) + " elements");
}

}  // namespace

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

QuantizeProblem check_quantize(const QuantizeAttributes& attributes, const std::vector<Shape>& inputs) {
  const Named named = name_inputs(attributes.inputs(), inputs);
  const Shape& x = named.at("x");
  if (x.empty() || x.back() < BLOCK || x.back() % BLOCK != 0) misfit("x", x, "[..., K], K a multiple of 16");
  const QuantizeProblem problem{rows_of("x", x), x.back()};
  // The kernels count blocks in 32 bits.
  if (problem.m * (problem.k / BLOCK) > std::numeric_limits<std::int32_t>::max()) {
    misfit("x", x, "of fewer than 2^31 blocks of 16");
  }
  const auto other = named.find("other");
  if (other != named.end() && other->second != x) misfit("other", other->second, text_of(x));
  for (const char* name : {"weight", "bias"}) {
    const auto found = named.find(name);
    if (found != named.end() && found->second != Shape{problem.k}) misfit(name, found->second, text_of({problem.k}));
  }
  check_volume(named, "scale", 1, false);
  return problem;
}

GemmProblem check_gemm(const GemmAttributes& attributes, const std::vector<Shape>& inputs) {
  const Named named = name_inputs(attributes.inputs(), inputs);
  const Shape &a = named.at("a"), &b = named.at("b");
  const bool matrix = b.size() == 2 && b[0] >= GEMM_N_STEP && b[1] >= GEMM_K_STEP / 2;
  if (!matrix || b[0] % GEMM_N_STEP != 0 || 2 * b[1] % GEMM_K_STEP != 0) {
    misfit("b", b, "[N, K/2], N a multiple of 8 and K of 32");
  }
  if (b[0] > std::numeric_limits<std::int32_t>::max() || b[1] > std::numeric_limits<std::int32_t>::max() / 2) {
    misfit("b", b, "[N, K/2], N and K below 2^31");
  }
  if (a.empty() || a.back() != b[1]) misfit("a", a, "[..., " + std::to_string(b[1]) + "], as b is " + text_of(b));
  const std::int64_t m = rows_of("a", a), n = b[0], k = 2 * b[1];
  check_volume(named, "a_scales", scale_bytes(m, k), false);
  check_volume(named, "b_scales", scale_bytes(n, k), false);
  check_volume(named, "alpha", m, true);
  check_volume(named, "beta", n, true);
  check_volume(named, "bias", n, false);
  return GemmProblem{m, n, k, volume(named.at("alpha")) != 1, volume(named.at("beta")) != 1};
}

}  // namespace nvfp4
