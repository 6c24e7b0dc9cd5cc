"""A small model whose layers do unequal damage, batches for it, and a metric to hold it to."""

import torch
from parts import example
from torch import nn


def encoder(layers=2):
    """Return a small encoder and two batches for it."""
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True, activation="gelu")
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()
    return model, [{"src": torch.randn(2, 8, 64)} for _ in range(2)]


def tied():
    """Return a model whose embedding is tied with its head, and one batch."""
    module, batch, _ = example("gpt2")
    return module, [batch]


def largest(model):
    """Return a metric of a model that takes `src`: better the larger."""
    x = torch.ones(1, 4, 64) / 8
    return model(src=x).abs().max()


def broken(model):
    raise ValueError("no labels here")


def nothing(model):
    return float("nan")
