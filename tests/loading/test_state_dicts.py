"""Weights in files of their own: state dicts, checkpoints and safetensors, put into a factory's module."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from nvfp4_trt.errors import (
    FactoryImportError,
    FactoryResultError,
    InputSpecError,
    NotAModelError,
    StateDictMismatchError,
    WrongKindError,
)
from nvfp4_trt.loading import SourceKind, load_model

TIED = """
    from torch import nn

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 8)
            self.head = nn.Linear(8, 10, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))
"""


def assert_same(module, net):
    x = torch.randn(3, 8)
    assert not module.training
    assert torch.equal(module(x), net(x))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_goes_into_the_factorys_module(here, net, net_factory, zipped):
    torch.save(net.state_dict(), "w.pt", _use_new_zipfile_serialization=zipped)
    loaded = load_model("w.pt", factory=net_factory)
    assert loaded.kind is SourceKind.STATE_DICT
    assert loaded.source == "w.pt"
    assert loaded.example is None
    assert loaded.notes == ()
    assert loaded.sha256 == hashlib.sha256((here / "w.pt").read_bytes()).hexdigest()
    assert_same(loaded.module, net)


def test_safetensors_go_into_the_factorys_module(here, net, net_factory):
    save_file(net.state_dict(), "w.safetensors")
    loaded = load_model(here / "w.safetensors", factory=net_factory)
    assert loaded.kind is SourceKind.SAFETENSORS
    assert_same(loaded.module, net)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module"])
def test_a_checkpoint_is_unwrapped_and_says_so(here, net, net_factory, key):
    torch.save({key: net.state_dict(), "optimizer": {"lr": 0.1}, "epoch": 3}, "c.pt")
    loaded = load_model("c.pt", factory=net_factory)
    assert loaded.notes == (f"took the weights under {key!r}; passed over optimizer, epoch",)
    assert_same(loaded.module, net)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_wrappers_prefix_is_removed(here, net, net_factory, prefix):
    torch.save({prefix + k: v for k, v in net.state_dict().items()}, "w.pt")
    loaded = load_model("w.pt", factory=net_factory)
    assert "removed the prefix" in loaded.notes[0]
    assert_same(loaded.module, net)


def test_weights_are_cast_to_the_modules_dtype(here, net, net_factory):
    torch.save({k: v.half() for k, v in net.state_dict().items()}, "w.pt")
    loaded = load_model("w.pt", factory=net_factory)
    assert loaded.module.up.weight.dtype == torch.float32
    assert loaded.notes == ("cast 4 tensors from float16 to float32, the module's dtype",)


def test_a_factory_may_build_on_meta(here, net, net_factory, factory):
    module = net_factory.partition(":")[0]
    on_meta = factory(
        f"""
        import torch
        from {module} import Net
        def build():
            with torch.device("meta"):
                return Net()
        """,
        "build",
    )
    torch.save(net.state_dict(), "w.pt")
    assert_same(load_model("w.pt", factory=on_meta).module, net)


def test_what_stays_on_meta_is_an_error(here, factory):
    spec = factory(
        """
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.up = nn.Linear(8, 8, device="meta")
                self.register_buffer("table", torch.empty(4, device="meta"), persistent=False)
        """,
        "Net",
    )
    torch.save(nn.ModuleDict({"up": nn.Linear(8, 8)}).state_dict(), "w.pt")
    with pytest.raises(FactoryResultError, match="does not fill table") as caught:
        load_model("w.pt", factory=spec)
    assert caught.value.code == "factory-result"


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_tied_weights_stay_tied(here, factory, kind):
    spec = factory(TIED, "Tied")
    namespace = {}
    exec(__import__("textwrap").dedent(TIED), namespace)  # noqa: S102 (the factory's own source)
    tied = namespace["Tied"]()
    if kind == "pt":
        torch.save(tied.state_dict(), "w.pt")
    else:
        save_model(tied, "w.safetensors")  # which leaves one of the two names out
    loaded = load_model(f"w.{kind}", factory=spec)
    assert loaded.module.head.weight is loaded.module.table.weight
    assert torch.equal(loaded.module.head.weight, tied.head.weight)
    if kind == "safetensors":
        assert any("it is tied to" in note for note in loaded.notes)


def test_a_file_that_unties_is_an_error(here, factory):
    torch.save({"table.weight": torch.zeros(10, 8), "head.weight": torch.ones(10, 8)}, "w.pt")
    with pytest.raises(StateDictMismatchError, match=r"one tensor in the module, but differ in w\.pt"):
        load_model("w.pt", factory=factory(TIED, "Tied"))


def test_zip_weights_are_mapped_not_copied(here, net, net_factory):
    torch.save(net.state_dict(), "w.pt")
    module = load_model("w.pt", factory=net_factory).module
    address = module.up.weight.data_ptr()
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in maps if line.endswith("w.pt")]
    assert any(int(low, 16) <= address < int(high, 16) for low, high in ranges)


def test_mismatches_are_listed(here, net, net_factory):
    weights = net.state_dict()
    weights["up.weight"] = torch.zeros(5, 5)
    weights["extra"] = weights.pop("down.weight")
    torch.save(weights, "w.pt")
    with pytest.raises(StateDictMismatchError) as caught:
        load_model("w.pt", factory=net_factory)
    assert caught.value.code == "state-dict-mismatch"
    for part in (
        "1 missing: down.weight",
        "1 unexpected: extra",
        "up.weight (file [5, 5], module [16, 8])",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize(("name", "what"), [("w.pt", "a state dict"), ("w.safetensors", "a safetensors file")])
def test_weights_without_a_factory_ask_for_one(here, net, name, what):
    (torch.save if name.endswith("pt") else save_file)(net.state_dict(), name)
    with pytest.raises(WrongKindError, match=f"{name} is {what}") as caught:
        load_model(name)
    assert caught.value.code == "wrong-kind"
    assert f"nvfp4-trt export {name} --model package.module:factory" in caught.value.hint


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"),
        ({}, "it holds nothing"),
    ],
)
def test_what_holds_no_weights_is_no_model(here, held, said):
    torch.save(held, "x.pt")
    with pytest.raises(NotAModelError, match=said) as caught:
        load_model("x.pt")
    assert caught.value.code == "not-a-model"


@pytest.mark.parametrize(
    ("source", "name", "error", "said"),
    [
        ("x = 1", "x", FactoryImportError, "it is an int, which cannot be called"),
        ("def build(): return 3", "build", FactoryResultError, "returned a int, not an nn.Module"),
        ("def build(): return 3", "biuld", FactoryImportError, "has no 'biuld'"),
        ("def build(): raise KeyError('k')", "build", FactoryImportError, "calling it raised KeyError"),
        ("import not_there_at_all", "build", FactoryImportError, "No module named 'not_there_at_all'"),
        ("def build(", "build", FactoryImportError, "raised SyntaxError"),
    ],
)
def test_factories_that_do_not_work(here, net, factory, source, name, error, said):
    torch.save(net.state_dict(), "w.pt")
    with pytest.raises(error, match=said) as caught:
        load_model("w.pt", factory=factory(source, name))
    assert caught.value.code == error.code in {"factory-import", "factory-result"}


@pytest.mark.parametrize("spec", ["nothing", "a.b", ":f", "a:", "a b:c", "a:b:c"])
def test_factory_syntax(here, net, spec):
    torch.save(net.state_dict(), "w.pt")
    with pytest.raises(InputSpecError, match=r"is not `package\.module:function`") as caught:
        load_model("w.pt", factory=spec)
    assert caught.value.code == "option-syntax"


def test_a_module_in_memory_is_hashed_by_its_contents(net):
    first = load_model(net.train())
    assert first.kind is SourceKind.MODULE
    assert not first.module.training
    assert first.source.endswith("Net")
    with torch.no_grad():
        net.up.bias[0] += 1
    assert load_model(net).sha256 != first.sha256


def test_a_whole_model_takes_no_factory(net):
    with pytest.raises(WrongKindError, match="a module in memory is a whole model") as caught:
        load_model(net, factory="a:b")
    assert caught.value.hint == "leave out --model"
