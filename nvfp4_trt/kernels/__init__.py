"""Kernels for NVIDIA GPUs: compiling them ahead of time, the pack that holds them, launching them.

Importing this room loads no compiler and no driver, and nothing in it needs torch.
"""

from nvfp4_trt.kernels.pack import Entry, GemmTile, KernelFile, Manifest, Pack, load_pack

__all__ = ["Entry", "GemmTile", "KernelFile", "Manifest", "Pack", "load_pack"]
