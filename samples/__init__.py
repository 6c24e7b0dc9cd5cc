"""Runnable samples, one folder each."""
