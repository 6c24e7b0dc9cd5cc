"""This project's columns of `accuracy.py`."""

from __future__ import annotations

from quantizers import ours

OURS = (ours("max"),)
