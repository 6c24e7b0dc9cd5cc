"""Write a BERT-base-shaped model with random weights as a Hugging Face folder, the same for every run.

Both sides of `export_vs_modelopt.py` start from this folder; writing it is not timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

SEED = 20240229


def write(folder: Path, *, layers: int, dtype: torch.dtype) -> None:
    """Save a `BertModel` with random weights and its config under `folder`.

    Args:
        folder: is made if missing.
        layers: how many encoder layers; 12 is BERT-base.
        dtype: what the weights are stored in.
    """
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=768,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=3072,
    )
    BertModel(config).to(dtype).save_pretrained(folder)


def main() -> None:
    """Read the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    options = parser.parse_args()
    write(options.folder, layers=options.layers, dtype=getattr(torch, options.dtype))


if __name__ == "__main__":
    main()
