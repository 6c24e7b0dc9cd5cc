#include "codec.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace harness {

namespace {

constexpr int BLOCK = 16;
constexpr float LARGEST = std::numeric_limits<float>::max();

// Rounds to `mantissa` bits after the leading one, with exponents from `least` on, to nearest even.
double rounded(double value, int mantissa, int least, double largest) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);  // value = f * 2^exponent, f in [1/2, 1)
  const double unit = std::ldexp(1.0, std::max(exponent - 1, least) - mantissa);
  const double result = std::nearbyint(value / unit) * unit;  // exact but for the rounding
  return std::fabs(result) > largest ? std::copysign(INFINITY, value) : result;
}

template <class Bits>
Bits bits_of_rounded(double value, int mantissa, int bias, int exponent_bits) {
  const Bits sign = std::signbit(value) ? Bits(1u << 15) : Bits(0);
  const Bits infinity = static_cast<Bits>(((1u << exponent_bits) - 1) << mantissa);
  if (std::isnan(value)) return static_cast<Bits>(sign | infinity | 1u << (mantissa - 1));
  if (std::isinf(value)) return static_cast<Bits>(sign | infinity);
  const double magnitude = std::fabs(value);
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int stored = exponent - 1 + bias;
  if (magnitude == 0.0 || stored <= 0) {
    return static_cast<Bits>(sign | static_cast<unsigned>(std::ldexp(magnitude, bias - 1 + mantissa)));
  }
  const double fraction = std::ldexp(magnitude, 1 - exponent) - 1.0;
  return static_cast<Bits>(sign | static_cast<unsigned>(stored) << mantissa |
                           static_cast<unsigned>(std::ldexp(fraction, mantissa)));
}

double value_of_bits(unsigned bits, int mantissa, int bias, int exponent_bits) {
  const unsigned exponent = bits >> mantissa & ((1u << exponent_bits) - 1), fraction = bits & ((1u << mantissa) - 1);
  double magnitude = 0.0;
  if (exponent == (1u << exponent_bits) - 1) {
    magnitude = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<double>(fraction), 1 - bias - mantissa);
  } else {
    magnitude = std::ldexp(static_cast<double>(fraction | 1u << mantissa), static_cast<int>(exponent) - bias - mantissa);
  }
  return bits & 0x8000u ? -magnitude : magnitude;
}

// The code of the value in an ascending table that is nearest to `value`, the even code at a tie.
template <class Value>
unsigned nearest(double value, unsigned count, Value value_of) {
  unsigned low = 0;
  while (low + 1 < count && value_of(low + 1) <= value) ++low;
  if (low + 1 == count) return low;
  const double middle = (value_of(low) + value_of(low + 1)) / 2;
  if (value == middle) return low % 2 == 0 ? low : low + 1;
  return value < middle ? low : low + 1;
}

const std::vector<double>& e4m3_values() {
  static const std::vector<double> values = [] {
    std::vector<double> all;
    for (unsigned byte = 0; byte < 127; ++byte) all.push_back(value_of_e4m3(byte));
    return all;
  }();
  return values;
}

unsigned e4m3_of(float value) {
  const std::vector<double>& all = e4m3_values();
  const auto above = std::upper_bound(all.begin(), all.end(), static_cast<double>(value));
  const unsigned start = static_cast<unsigned>(above - all.begin());
  if (start == all.size()) return 126;  // saturated at 448
  const unsigned low = start - 1;
  const double middle = (all[low] + all[start]) / 2;
  if (value == middle) return low % 2 == 0 ? low : start;
  return value < middle ? low : start;
}

unsigned e2m1_of(float value) {
  const unsigned code = nearest(std::fabs(static_cast<double>(value)), 8, value_of_e2m1);
  return code | (std::signbit(value) ? 8u : 0u);
}

// NaN counts as 0 and infinity as the largest number.
float finite(float value) {
  if (std::isnan(value)) return 0.0f;
  return std::isinf(value) ? std::copysign(LARGEST, value) : value;
}

float amax_of(const float* values, std::int64_t count) {
  float amax = 0.0f;
  for (std::int64_t i = 0; i < count; ++i) amax = std::max(amax, std::fabs(finite(values[i])));
  return amax;
}

float scale_of(float amax) {
  const float scale = amax / 2688.0f;
  return scale < std::ldexp(1.0f, -117) ? 1.0f : scale;
}

unsigned quantize_block(const float* x, float scale, std::uint8_t* codes) {
  std::memset(codes, 0, BLOCK / 2);
  if (std::any_of(x, x + BLOCK, [](float value) { return std::isnan(value); })) return 0x7Fu;
  const unsigned byte = e4m3_of(amax_of(x, BLOCK) / 6.0f / scale);
  if (byte == 0) return 0;
  const float factor = 1.0f / scale / static_cast<float>(value_of_e4m3(byte));
  for (int i = 0; i < BLOCK; ++i) {
    codes[i / 2] = static_cast<std::uint8_t>(codes[i / 2] | e2m1_of(finite(x[i]) * factor) << (4 * (i % 2)));
  }
  return byte;
}

}  // namespace

std::size_t bytes_of(Type type) { return type == Type::F32 ? 4 : 2; }
const char* name_of(Type type) { return type == Type::F16 ? "f16" : type == Type::BF16 ? "bf16" : "f32"; }

std::uint16_t half_of(double value) {
  return bits_of_rounded<std::uint16_t>(rounded(value, 10, -14, 65504.0), 10, 15, 5);
}
std::uint16_t bfloat_of(double value) {
  return bits_of_rounded<std::uint16_t>(rounded(value, 7, -126, 3.3895313892515355e38), 7, 127, 8);
}
double value_of_half(std::uint16_t bits) { return value_of_bits(bits, 10, 15, 5); }
double value_of_bfloat(std::uint16_t bits) { return value_of_bits(bits, 7, 127, 8); }

std::vector<std::uint8_t> encode(const std::vector<float>& values, Type type) {
  std::vector<std::uint8_t> bytes(values.size() * bytes_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (type == Type::F32) {
      std::memcpy(&bytes[4 * i], &values[i], 4);
      continue;
    }
    const std::uint16_t bits = type == Type::F16 ? half_of(values[i]) : bfloat_of(values[i]);
    std::memcpy(&bytes[2 * i], &bits, 2);
  }
  return bytes;
}

std::vector<float> decode(const std::vector<std::uint8_t>& bytes, Type type) {
  std::vector<float> values(bytes.size() / bytes_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (type == Type::F32) {
      std::memcpy(&values[i], &bytes[4 * i], 4);
      continue;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, &bytes[2 * i], 2);
    values[i] = static_cast<float>(type == Type::F16 ? value_of_half(bits) : value_of_bfloat(bits));
  }
  return values;
}

double value_of_e2m1(unsigned code) {
  constexpr double MAGNITUDES[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (code & 8u ? -1 : 1) * MAGNITUDES[code & 7u];
}

double value_of_e4m3(unsigned byte) {
  if ((byte & 0x7Fu) == 0x7Fu) return NAN;
  const int exponent = static_cast<int>(byte >> 3 & 15u), fraction = static_cast<int>(byte & 7u);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return byte & 0x80u ? -magnitude : magnitude;
}

std::int64_t swizzled_offset(std::int64_t r, std::int64_t k, std::int64_t columns) {
  return (r / 128 * ((columns + 63) / 64) + k / 4) * 512 + r % 32 * 16 + r % 128 / 32 * 4 + k % 4;
}

std::int64_t swizzled_bytes(std::int64_t rows, std::int64_t columns) {
  return (rows + 127) / 128 * ((columns + 63) / 64) * 512;
}

Quantized quantize(const std::vector<float>& x, std::int64_t m, std::int64_t k, Mode mode, float given) {
  Quantized result;
  result.codes.resize(static_cast<std::size_t>(m * k / 2));
  result.scales.resize(static_cast<std::size_t>(swizzled_bytes(m, k)));
  float scale = mode == Mode::STATIC ? given : 1.0f;
  if (mode == Mode::TENSOR) scale = scale_of(amax_of(x.data(), m * k));
  if (mode != Mode::TOKEN) result.alpha.push_back(scale);
  for (std::int64_t r = 0; r < m; ++r) {
    const float* const row = x.data() + r * k;
    if (mode == Mode::TOKEN) {
      scale = scale_of(amax_of(row, k));
      result.alpha.push_back(scale);
    }
    for (std::int64_t b = 0; b < k / BLOCK; ++b) {
      const unsigned byte = quantize_block(row + b * BLOCK, scale, &result.codes[static_cast<std::size_t>((r * k + b * BLOCK) / 2)]);
      result.scales[static_cast<std::size_t>(swizzled_offset(r, b, k))] = static_cast<std::uint8_t>(byte);
    }
  }
  return result;
}

}  // namespace harness
