"""Checkpoints that other packages quantized, taken to engines bit for bit."""
