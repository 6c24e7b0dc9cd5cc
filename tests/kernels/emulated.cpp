// A kernel's source, compiled for a CPU (`-DKERNEL="..."`), with functions that launch an entry of it and that
// call parts of it on arrays of `n` numbers.
#include "cuda_on_cpu.h"

#include KERNEL

extern "C" {

int nvfp4_launch(void (*entry)(const nvfp4::Args), int grid, int block, int shared, uint64_t seed,
                 const nvfp4::Args* args) {
  return nvfp4::launch(grid, block, shared, seed, [=] { entry(*args); });
}

void nvfp4_divide_with(int n, const float* a, const float* b, float* quotient) {
  for (int i = 0; i < n; ++i) quotient[i] = nvfp4::divide_with(a[i], b[i], nvfp4::divide(1.0f, b[i]));
}

void nvfp4_inverse_of_e4m3(int n, const float* b, float* inverse) {
  for (int i = 0; i < n; ++i) inverse[i] = nvfp4::inverse_of_e4m3(b[i]);
}

void nvfp4_block_scales(int n, const float* amax, const float* scale, float floor, uint8_t* bytes, float* factors) {
  for (int i = 0; i < n; ++i) {
    const nvfp4::BlockScale found = nvfp4::block_scale(amax[i], nvfp4::scale_from(scale[i]), floor);
    bytes[i] = static_cast<uint8_t>(found.byte), factors[i] = found.factor;
  }
}

// `n` blocks of 16, each under a scale of its own.
void nvfp4_encode(int n, const uint8_t* x, const float* scale, float floor, uint8_t* codes, uint8_t* scales) {
  for (int i = 0; i < n; ++i) {
    const nvfp4::Raw raw = nvfp4::load_block(x + i * nvfp4::BLOCK * nvfp4::ELEMENT_BYTES);
    const nvfp4::Coded coded = nvfp4::encode(raw, nvfp4::magnitude_bits(raw), nvfp4::scale_from(scale[i]), floor);
    nvfp4::store_codes(codes + 8 * i, coded.low, coded.high);
    scales[i] = static_cast<uint8_t>(coded.scale);
  }
}

// What the header defines in the GPU's place.
void nvfp4_e4m3_of(int n, const float* x, uint8_t* bytes) {
  for (int i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(nvfp4::e4m3_of(x[i]));
}

void nvfp4_value_of_e4m3(int n, const uint8_t* bytes, float* x) {
  for (int i = 0; i < n; ++i) x[i] = nvfp4::value_of_e4m3(bytes[i]);
}

void nvfp4_narrow(int n, const float* x, uint16_t* bits) {
  for (int i = 0; i < n; ++i) bits[i] = static_cast<uint16_t>(nvfp4::narrow(x[i]));
}

void nvfp4_widen(int n, const uint16_t* bits, float* x) {
  for (int i = 0; i < n; ++i) x[i] = nvfp4::widen(bits[i]);
}

}  // extern "C"
