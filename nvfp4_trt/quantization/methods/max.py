"""`max`: the largest magnitude of a block maps to 6, and that of the tensor to 6 · 448."""

from __future__ import annotations

from nvfp4_trt.quantization.methods.choice import ScaleChoice

MAX = ScaleChoice()
"""What `format.pack_weight` does."""
