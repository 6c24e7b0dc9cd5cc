import copy

import pytest
import torch
from mixtures import encoder, tied

from nvfp4_trt.mixing.switchable import Switchable
from nvfp4_trt.quantization import quantize_module
from nvfp4_trt.quantization.convert import open_attention
from nvfp4_trt.recipe import RECIPES


@pytest.mark.parametrize("make", [encoder, tied])
def test_a_mixture_is_what_the_same_recipe_quantizes_bit_for_bit(make):
    module, (batch, *_) = make()
    recipe = RECIPES["w4a4-dynamic-token"]
    model = Switchable(module, recipe, fp8=True)
    with torch.no_grad():
        before = open_attention(copy.deepcopy(module))(**batch)
        assert torch.equal(model.module(**batch), before)
        for names in (model.names[::2], model.names[-1:], model.names):
            mixed = model.arrange(dict.fromkeys(names, "nvfp4"))(**batch)
            alone = quantize_module(module, recipe.model_copy(update={"only": names}))
            assert torch.equal(mixed, alone(**batch))
            assert not torch.equal(mixed, before)
        for fp8 in (model.names[1::2], model.names[-1:]):
            forms = dict.fromkeys(model.names, "nvfp4") | dict.fromkeys(fp8, "fp8")
            both = quantize_module(module, recipe.model_copy(update={"fp8": fp8}))
            assert torch.equal(model.arrange(forms)(**batch), both(**batch))
        assert torch.equal(model.arrange({})(**batch), before)
        assert torch.allclose(module(**batch), before, atol=1e-5)


def test_a_model_that_is_one_layer():
    module = torch.nn.Linear(32, 32)
    model = Switchable(module, RECIPES["w4a16"])
    assert model.arrange({}) is model.form("", "model")
    assert model.arrange({"": "nvfp4"}) is model.form("", "nvfp4")
