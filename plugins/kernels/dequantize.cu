// The values of a quantized matrix: e2m1 * s_b * s_t, in this order, in fp32, rounded once to the dtype.
//
// Of the arguments `codes`, `scales` and `scale_in` (fp32 [1], or [M] where `function` is 1; null for 1) are read,
// and `values` is written.
#include "elementwise.cuh"

extern "C" __global__ void __launch_bounds__(256, 4) dequantize(const __grid_constant__ nvfp4::Args args) {
  using namespace nvfp4;
  const Walk walk(args);
#pragma unroll 1
  for (int i = 0; walk.has(i); ++i) {
    const Place place = walk.at(i);
    const uint32_t* codes = reinterpret_cast<const uint32_t*>(place.codes);
    const Coded coded{codes[0], codes[1], *place.scale};
    const float scale = args.scale_in == nullptr ? 1.0f : args.scale_in[args.function == 1 ? place.r : 0];
    store_block(block_of(args.values, place.r, place.k, args.K), decode(coded, scale));
  }
}
