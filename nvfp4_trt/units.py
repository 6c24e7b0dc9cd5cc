"""Quantities as people read them."""

from __future__ import annotations


def readable_size(size: int) -> str:
    """Return a size in bytes as text, in KiB or MiB."""
    return f"{size / 2**10:.1f} KiB" if size < 2**20 else f"{size / 2**20:.1f} MiB"
