#include <cmath>
#include <limits>

#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

std::vector<double> dequantized(const Bytes& codes, const Bytes& scales, std::int64_t rows, std::int64_t k) {
  std::vector<double> values(static_cast<std::size_t>(rows * k));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(r * k + i);
      const unsigned code = codes[at / 2] >> (4 * (i % 2)) & 15u;
      values[at] = value_of_e2m1(code) * value_of_e4m3(scales[static_cast<std::size_t>(swizzled_offset(r, i / 16, k))]);
    }
  }
  return values;
}

std::string compare(const GemmCase& c, const GemmData& data, const std::vector<float>& found) {
  const std::vector<double> a = dequantized(data.a, data.a_scales, c.rows(), c.k);
  const std::vector<double> b = dequantized(data.b, data.b_scales, c.n, c.k);
  // Half an ulp of the output, and what sums in fp32 may lose.
  const double relative = c.type == Type::F16 ? 0x1p-11 : c.type == Type::BF16 ? 0x1p-8 : 0x1p-23;
  for (std::int64_t m = 0; m < c.rows(); ++m) {
    for (std::int64_t n = 0; n < c.n; ++n) {
      double sum = 0.0, magnitude = 0.0;
      for (std::int64_t k = 0; k < c.k; ++k) {
        const double term = a[static_cast<std::size_t>(m * c.k + k)] * b[static_cast<std::size_t>(n * c.k + k)];
        sum += term;
        magnitude += std::fabs(term);
      }
      const double factor = static_cast<double>(data.alpha[static_cast<std::size_t>(c.alpha_per_row ? m : 0)]) *
                            static_cast<double>(data.beta[static_cast<std::size_t>(c.beta_per_column ? n : 0)]);
      const double wanted = sum * factor + (c.bias ? static_cast<double>(data.bias[static_cast<std::size_t>(n)]) : 0.0);
      const double got = static_cast<double>(found[static_cast<std::size_t>(m * c.n + n)]);
      const double allowed = 2e-6 * magnitude * factor + 1.01 * relative * std::fabs(wanted) + 1e-6 * relative;
      if (std::isnan(wanted) ? !std::isnan(got) : !(std::fabs(got - wanted) <= allowed)) {
        return "[" + std::to_string(m) + ", " + std::to_string(n) + "] is " + std::to_string(got) + " instead of " +
               std::to_string(wanted) + " within " + std::to_string(allowed);
      }
    }
  }
  return "";
}

std::string run(Library& library, const GemmCase& c, const GemmData& data) {
  return compare(c, data, decode(run_once(library, GEMM, c.fields(), c.inputs(), data.bytes(c))[0], c.type));
}

}  // namespace

void check_gemm(Report& report, Library& library) {
  struct Size {
    Shape lead;
    std::int64_t n, k;
  };
  const Size sizes[] = {{{1}, 8, 32},        {{1}, 128, 256},   {{7}, 24, 96},      {{2, 100}, 136, 544},
                        {{16}, 256, 4096},   {{1}, 512, 8192},  {{128}, 256, 512},  {{5, 30}, 128, 4128},
                        {{300}, 520, 2080}};
  unsigned seed = 5000;
  for (Type type : TYPES) {
    for (const Size& size : sizes) {
      for (const bool rich : {false, true}) {
        GemmCase c;
        c.type = type, c.lead = size.lead, c.n = size.n, c.k = size.k;
        c.bias = c.alpha_per_row = c.beta_per_column = rich;
        Random random(++seed);
        const GemmData data(c, random);
        report.runs("gemm " + c.text(), [&] { return run(library, c, data); });
      }
    }
  }
  GemmCase c;
  c.type = Type::F32, c.lead = {9}, c.n = 64, c.k = 1024;
  Random random(6000);
  GemmData data(c, random);
  data.a_scales[static_cast<std::size_t>(swizzled_offset(3, 17, c.k))] = 0x7F;
  report.runs("gemm " + c.text() + ", a NaN scale makes its row NaN, and no other", [&] { return run(library, c, data); });
}

}  // namespace harness
