"""The numbers of the NVFP4 format."""

from __future__ import annotations

BLOCK = 16
"""Elements that share one block scale."""

E2M1_MAX = 6.0
"""Largest e2m1 magnitude."""

E4M3_MAX = 448.0
"""Largest finite e4m3fn value."""

TWO_LEVEL_MAX = E4M3_MAX * E2M1_MAX
"""What the largest magnitude of a tensor is mapped to when there are two levels of scales: 2688."""

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The value of each 4-bit code: bit 3 is the sign, bits 2 and 1 the exponent, bit 0 the mantissa."""

FLT_MAX = 3.4028234663852886e38
"""Largest finite fp32 value: where infinities saturate."""

SMALLEST_SCALE = 2.0**-117
"""Smallest per-tensor scale that is used as it is.

The smallest positive e4m3 is 2^-9, so 2^-117 keeps every combined scale `s_b * s_t` at or above 2^-126,
the smallest normal fp32, and every factor `(1 / s_t) / s_b` at or below 2^126, hence finite. Hardware that
flushes subnormals therefore computes the same codes. A tensor whose scale would be smaller (amax below
2688 * 2^-117, about 1.6e-32, and an all-zero tensor with it) gets the scale 1.0 and quantizes to zeros.
"""
