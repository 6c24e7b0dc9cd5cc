// The number format on the CPU, written from docs/format.md and from nothing else: searched in tables of values,
// where the kernels compute with bits.
#pragma once

#include <cstdint>
#include <vector>

namespace harness {

enum class Type { F16, BF16, F32 };

std::size_t bytes_of(Type type);
const char* name_of(Type type);

// Rounded to nearest, ties to even; infinity beyond the largest number.
std::uint16_t half_of(double value);
std::uint16_t bfloat_of(double value);
double value_of_half(std::uint16_t bits);
double value_of_bfloat(std::uint16_t bits);

// Numbers as they lie in memory, and back.
std::vector<std::uint8_t> encode(const std::vector<float>& values, Type type);
std::vector<float> decode(const std::vector<std::uint8_t>& bytes, Type type);

double value_of_e2m1(unsigned code);
double value_of_e4m3(unsigned byte);  // NaN for 0x7F and 0xFF

// Where the byte of block k of row r lies in tiles of 128 x 4, and how many bytes all tiles have.
std::int64_t swizzled_offset(std::int64_t r, std::int64_t k, std::int64_t columns);
std::int64_t swizzled_bytes(std::int64_t rows, std::int64_t columns);

enum class Mode { TOKEN, TENSOR, STATIC, SINGLE };

struct Quantized {
  std::vector<std::uint8_t> codes;   // [M, K/2], low nibble first
  std::vector<std::uint8_t> scales;  // swizzled, padding zero
  std::vector<float> alpha;          // [1] or [M]
};

// x: [M, K]. `given`: the scale of the mode STATIC.
Quantized quantize(const std::vector<float>& x, std::int64_t m, std::int64_t k, Mode mode, float given);

}  // namespace harness
