"""The decoder and its texts: GPT-2's own architecture in transformers, small, with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GPT2LMHeadModel

VOCABULARY, WIDTH, HEADS, POSITIONS = 256, 128, 4, 128
SPREAD = 0.1
"""Standard deviation of weights: five times GPT-2's, for a decoder that was not trained to prefer some tokens."""
LENGTHS = (16, 48, 96)
"""Tokens of the texts: one batch of each, so that the sequence is really dynamic."""
TEXTS = 4


def decoder(layers: int) -> GPT2LMHeadModel:
    """Return a GPT-2 of so many layers, its `lm_head` tied to its embedding; `input_ids` to `logits`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=layers,
        n_head=HEADS,
        initializer_range=SPREAD,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def texts(model: GPT2LMHeadModel) -> list[dict[str, Tensor]]:
    """Return batches of texts that the float decoder wrote, int64 `[4, length]`.

    Each token is drawn from the decoder's own distribution, so that its perplexity on them is that of its own
    uncertainty, and another model's is higher by how far its distributions are from these.
    """
    generator = torch.Generator().manual_seed(1)
    batches = []
    for length in LENGTHS:
        ids = torch.randint(0, VOCABULARY, (TEXTS, 1), generator=generator)
        while ids.shape[1] < length:
            with torch.no_grad():
                chances = model(input_ids=ids).logits[:, -1].softmax(dim=-1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
        batches.append({"input_ids": ids})
    return batches
