"""The names of outputs."""

from collections import OrderedDict

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from nvfp4_trt.errors import ModelRunError
from nvfp4_trt.loading import flatten_outputs

A, B, C = torch.ones(1), torch.ones(2), torch.ones(3)


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (A, ["output"]),
        ((A, B), ["output_0", "output_1"]),
        ([A], ["output_0"]),
        ((A, None, C), ["output_0", "output_2"]),
        ((A, (B, C)), ["output_0", "output_1_0", "output_1_1"]),
        ({"logits": A, "hidden": [B, C]}, ["logits", "hidden_0", "hidden_1"]),
        ({"a": {"b": A, "c": B}}, ["a_b", "a_c"]),
        (OrderedDict(z=A, a=B), ["z", "a"]),
        (BaseModelOutputWithPooling(last_hidden_state=A, pooler_output=B),
         ["last_hidden_state", "pooler_output"]),
        (BaseModelOutputWithPooling(last_hidden_state=A, hidden_states=(B, C)),
         ["last_hidden_state", "hidden_states_0", "hidden_states_1"]),
    ],
)  # fmt: skip
def test_names(output, names):
    flat = flatten_outputs(output)
    assert list(flat) == names
    assert all(isinstance(tensor, torch.Tensor) for tensor in flat.values())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"past": DynamicCache()}, r"'past' is a key-value cache \(DynamicCache\)"),
        ((A, 3.0), "'output_1' is a float, not a tensor"),
        ("text", "'output' is a str, not a tensor"),
        (None, "returned no tensor"),
        ((None, {}), "returned no tensor"),
        ({"a_0": A, "a": [B]}, "would both be named 'a_0'"),
    ],
)
def test_outputs_that_have_no_name(output, said):
    with pytest.raises(ModelRunError, match=said) as caught:
        flatten_outputs(output)
    assert caught.value.code == "model-run"
    assert caught.value.hint
