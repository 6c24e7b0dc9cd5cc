"""Modules built without their weights."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nvfp4_trt.loading import load_model
from nvfp4_trt.loading.skeleton import depends_on_weights, parameters_on_meta
from nvfp4_trt.loading.stored import region_of


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(40, 8)
        self.head = nn.Linear(8, 40, bias=False)
        self.head.weight = self.wte.weight
        shared = nn.Parameter(torch.ones(3), requires_grad=False)
        self.a, self.b = shared, shared
        self.register_buffer("positions", torch.arange(5), persistent=False)


def test_parameters_have_no_data_and_buffers_have():
    with parameters_on_meta():
        module = Tied()
    assert all(parameter.is_meta for parameter in module.parameters())
    assert module.head.weight is module.wte.weight
    assert module.a is module.b
    assert not module.a.requires_grad
    assert module.positions.tolist() == [0, 1, 2, 3, 4]
    assert not depends_on_weights(module)
    assert not Tied().a.is_meta


SOURCES = {
    "a buffer computed from a weight": "self.register_buffer('norm', self.fc.weight.data.norm(), False)",
    "a tensor beside": "self.norm = self.fc.weight.detach().norm()",
    "a number computed from a weight": "self.norm = float(self.fc.weight.sum())",
}


@pytest.mark.parametrize("what", SOURCES)
def test_a_factory_that_needs_data_gets_it(here, factory, what):
    name = factory(
        f"""
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(32, 32)
                nn.init.ones_(self.fc.weight)
                {SOURCES[what]}
            def forward(self, x):
                return self.fc(x) * self.norm
        """
    )
    save_file({"fc.weight": torch.rand(32, 32), "fc.bias": torch.rand(32)}, "w.safetensors")
    module = load_model("w.safetensors", factory=name).module
    assert float(module.norm) == (1024.0 if "number" in what else 32.0)


def test_large_weights_stay_in_their_file(here, factory):
    name = factory(
        "from torch import nn\ndef Net():\n    return nn.Sequential(nn.Linear(256, 256), nn.LayerNorm(256))"
    )
    weights = {
        "0.weight": torch.rand(256, 256),
        **{f"{n}": torch.rand(256) for n in ("0.bias", "1.weight", "1.bias")},
    }
    save_file(weights, "w.safetensors")
    module = load_model("w.safetensors", factory=name).module
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert region_of(module[0].weight).path == str(here / "w.safetensors")
    assert region_of(module[1].weight) is None
