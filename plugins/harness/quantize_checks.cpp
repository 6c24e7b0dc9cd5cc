#include <algorithm>
#include <cmath>
#include <limits>

#include "cases.hpp"
#include "checks.hpp"
#include "node.hpp"

namespace harness {

namespace {

enum Output { CODES, SCALES, ALPHA, VALUES };

std::string first_difference(const char* what, const Bytes& found, const Bytes& wanted) {
  if (found.size() != wanted.size()) return std::string(what) + " have another size";
  const auto at = std::mismatch(found.begin(), found.end(), wanted.begin());
  if (at.first == found.end()) return "";
  return std::string(what) + " differ from byte " + std::to_string(at.first - found.begin()) + " on: " +
         std::to_string(*at.first) + " instead of " + std::to_string(*at.second);
}

// What three outputs must hold, bit by bit, given what was quantized.
std::string compare(const QuantizeCase& c, const std::vector<float>& quantized, const std::vector<Bytes>& found) {
  const Quantized wanted = quantize(quantized, c.rows(), c.columns(), c.mode, STATIC_SCALE);
  std::string wrong = first_difference("alpha's bytes", found[ALPHA], encode(wanted.alpha, Type::F32));
  if (wrong.empty()) wrong = first_difference("scales", found[SCALES], wanted.scales);
  return wrong.empty() ? first_difference("codes", found[CODES], wanted.codes) : wrong;
}

std::string run_plain(Library& library, const QuantizeCase& c, const std::vector<float>& x) {
  std::vector<Bytes> data{encode(x, c.type)};
  if (c.mode == Mode::STATIC) data.push_back(encode({STATIC_SCALE}, Type::F32));
  return compare(c, x, run_once(library, QUANTIZE, c.fields(), c.inputs(), data));
}

void check_special(Report& report, Library& library) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (Type type : TYPES) {
    for (Mode mode : MODES) {
      QuantizeCase c;
      c.type = type, c.mode = mode, c.shape = {37, 192};
      const auto runs = [&](const std::string& what, const std::vector<float>& x) {
        report.runs("quantize " + c.text() + ", " + what,
                    [&] { return run_plain(library, c, decode(encode(x, type), type)); });
      };
      const std::size_t count = static_cast<std::size_t>(volume(c.shape));
      Random random(99);
      std::vector<float> x = random.values(volume(c.shape), type);
      runs("all zero", std::vector<float>(count, 0.0f));
      x[5] = 30000.0f;
      runs("one outlier", x);
      x[700] = nan, x[2000] = -nan;
      runs("NaN", x);
      x[900] = infinity, x[3000] = -infinity;
      runs("NaN and infinity", x);
      // Multiples of a quarter: half of them lie between two codes.
      for (float& value : x) value = static_cast<float>(random.below(25)) * 0.25f - 3.0f;
      for (std::size_t i = 0; i < count; i += 16) x[i] = 6.0f;
      runs("ties", x);
    }
  }
}

// In double precision, but for the sum with the residual, which is rounded to the type.
std::vector<double> function_of(const QuantizeCase& c, const QuantizeData& data, const std::vector<float>& summed) {
  std::vector<double> values(summed.begin(), summed.end());
  const auto k = static_cast<std::size_t>(c.columns());
  if (c.function == "layer_norm" || c.function == "rms_norm") {
    for (std::size_t row = 0; row < values.size(); row += k) {
      double mean = 0.0, squares = 0.0;
      for (std::size_t i = 0; i < k && c.function == "layer_norm"; ++i) mean += values[row + i] / static_cast<double>(k);
      for (std::size_t i = 0; i < k; ++i) squares += (values[row + i] - mean) * (values[row + i] - mean);
      const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(k) + static_cast<double>(c.epsilon));
      for (std::size_t i = 0; i < k; ++i) {
        values[row + i] = (values[row + i] - mean) * inverse * (c.weight ? static_cast<double>(data.weight[i]) : 1.0) +
                          (c.bias ? static_cast<double>(data.bias[i]) : 0.0);
      }
    }
    return values;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = values[i];
    if (c.function == "gelu") values[i] = 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    if (c.function == "gelu_tanh") {
      values[i] = 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / 3.141592653589793) * (x + 0.044715 * x * x * x)));
    }
    if (c.function == "relu") values[i] = x < 0.0 ? 0.0 : x;
    if (c.function == "silu") values[i] = x / (1.0 + std::exp(-x));
    if (c.function == "silu_mul") values[i] = x / (1.0 + std::exp(-x)) * static_cast<double>(data.other[i]);
  }
  return values;
}

std::string compare_values(Type type, const std::vector<double>& wanted, const std::vector<float>& found) {
  // Half an ulp of the type, and what fp32 arithmetic may lose.
  const double relative = type == Type::F16 ? 0x1p-11 : type == Type::BF16 ? 0x1p-8 : 0.0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double error = std::fabs(static_cast<double>(found[i]) - wanted[i]);
    const double allowed = 1.01 * relative * std::fabs(wanted[i]) + 1e-5 * (1.0 + std::fabs(wanted[i]));
    if (!(error <= allowed)) {
      return "value " + std::to_string(i) + " is " + std::to_string(found[i]) + " instead of " +
             std::to_string(wanted[i]);
    }
  }
  return "";
}

std::string run_function(Library& library, QuantizeCase c, unsigned seed) {
  Random random(seed);
  const QuantizeData data(c, random);
  std::vector<float> summed = data.x;
  for (std::size_t i = 0; i < summed.size() && c.residual; ++i) summed[i] += data.other[i];
  summed = decode(encode(summed, c.type), c.type);
  c.emit_values = true, c.emit_sum = c.residual;
  const std::vector<Bytes> found = run_once(library, QUANTIZE, c.fields(), c.inputs(), data.bytes(c));
  const std::vector<float> values = decode(found[VALUES], c.type);
  std::string wrong = compare_values(c.type, function_of(c, data, summed), values);
  if (wrong.empty()) wrong = compare(c, values, found);
  if (wrong.empty() && c.residual) wrong = first_difference("the sum's bytes", found.back(), encode(summed, c.type));
  if (!wrong.empty()) return wrong;
  // Without the optional outputs the others are the same.
  c.emit_values = c.emit_sum = false;
  return compare(c, values, run_once(library, QUANTIZE, c.fields(), c.inputs(), data.bytes(c)));
}

}  // namespace

void check_codec(Report& report) {
  bool halves = true, bfloats = true, bytes = true;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    const double half = value_of_half(pattern), bfloat = value_of_bfloat(pattern);
    halves = halves && (std::isnan(half) || half_of(half) == pattern);
    bfloats = bfloats && (std::isnan(bfloat) || bfloat_of(bfloat) == pattern);
  }
  report.holds("the reference reads back all 65536 patterns of f16", halves);
  report.holds("the reference reads back all 65536 patterns of bf16", bfloats);
  for (unsigned byte = 1; byte < 127; ++byte) bytes = bytes && value_of_e4m3(byte) > value_of_e4m3(byte - 1);
  report.holds("the reference's e4m3 ascends to 448", bytes && value_of_e4m3(126) == 448.0);
  const Quantized one = quantize({6, 3, -1.5f, 0.25f, 0.75f, 5, -5, 0, 2.5f, 3.5f, 1.25f, 1.75f, 0, 0, 0, -0.25f}, 1, 16,
                                 Mode::SINGLE, 1.0f);
  const Bytes wanted{0x57, 0x0B, 0x62, 0x0E, 0x64, 0x42, 0x00, 0x80};
  report.holds("the reference rounds a block of ties to even", one.codes == wanted && one.scales[0] == 0x38,
               first_difference("codes", one.codes, wanted));
}

void check_quantize(Report& report, Library& library) {
  const Shape shapes[] = {{16},          {1, 4096},     {7, 48},       {128, 64},     {3, 5, 112},
                          {200, 1024}, {2, 65, 4096}, {64, 16384}, {3, 40000}, {1500, 2048}};
  unsigned seed = 1;
  for (Type type : TYPES) {
    for (Mode mode : MODES) {
      for (const Shape& shape : shapes) {
        QuantizeCase c;
        c.type = type, c.mode = mode, c.shape = shape;
        Random random(seed++);
        report.runs("quantize " + c.text(),
                    [&] { return run_plain(library, c, random.values(volume(shape), type, seed % 3 == 0 ? 1e-3 : 1.0)); });
      }
    }
  }
  check_special(report, library);
}

void check_functions(Report& report, Library& library) {
  unsigned seed = 1000;
  const auto run = [&](const QuantizeCase& c) {
    ++seed;
    report.runs("quantize " + c.text(), [&] { return run_function(library, c, seed); });
  };
  for (Type type : TYPES) {
    for (Mode mode : MODES) {
      QuantizeCase c;
      c.type = type, c.mode = mode;
      for (const Shape& shape : {Shape{3, 67, 384}, Shape{5, 12288}, Shape{600, 64}}) {
        c.shape = shape;
        c.residual = c.weight = c.bias = false;
        for (const char* function : {"gelu", "gelu_tanh", "silu", "silu_mul", "relu"}) {
          c.function = function;
          run(c);
        }
        c.function = "rms_norm";
        run(c);
        c.residual = c.weight = true;
        run(c);
        c.function = "layer_norm", c.residual = false, c.bias = true;
        run(c);
        c.residual = true;
        run(c);
      }
    }
  }
}

}  // namespace harness
