"""Pickles: nothing that they name is called unless the file is trusted."""

import pickle
import sys

import pytest
import torch

from nvfp4_trt.errors import DependencyMissingError, NotAModelError, UntrustedCodeError, WrongKindError
from nvfp4_trt.loading import SourceKind, load_model


@pytest.fixture
def saved(here, net_factory, monkeypatch):
    """A pickled module, whose class is in a file beside it and not yet imported."""
    name = net_factory.partition(":")[0]
    monkeypatch.syspath_prepend(str(here))
    module = __import__(name).Net()
    torch.save(module, "m.pt")
    torch.save(module, "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": module.state_dict(), "config": module}, "c.pt")
    del sys.modules[name]
    return name, module


@pytest.mark.parametrize("zipped", [True, False])
def test_a_payload_does_not_run(here, payload, marker, zipped):
    torch.save({"weight": payload}, "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UntrustedCodeError, match=r"is a checkpoint.*posix\.mkdir") as caught:
        load_model("evil.pt", factory="a:b")
    assert caught.value.code == "untrusted-code"
    assert "nvfp4-trt export evil.pt --model package.module:factory --trust-pickle" in caught.value.hint
    assert not marker.exists()


def test_a_payload_as_the_outermost_object_does_not_run(here, payload, marker):
    for name, data in (("plain.pkl", pickle.dumps(payload, 4)), ("old.pkl", pickle.dumps(payload, 2))):
        (here / name).write_bytes(data)
        with pytest.raises(UntrustedCodeError, match=r"pickled object of class posix\.mkdir"):
            load_model(name)
    assert not marker.exists()


def test_the_payload_is_real(here, payload, marker):
    torch.save({"weight": payload}, "evil.pt")
    with pytest.raises(NotAModelError):
        load_model("evil.pt", trust_pickle=True)
    assert marker.is_dir()


@pytest.mark.parametrize("path", ["m.pt", "old.pt"])
def test_a_pickled_module_needs_trust(here, saved, path):
    name = saved[0]
    with pytest.raises(UntrustedCodeError, match=rf"pickled object of class {name}\.Net") as caught:
        load_model(path)
    assert f"nvfp4-trt export {path} --trust-pickle;" in caught.value.hint
    assert name not in sys.modules


def test_a_trusted_module_is_loaded(here, saved):
    _, module = saved
    loaded = load_model("m.pt", trust_pickle=True)
    assert loaded.kind is SourceKind.PICKLED_MODULE
    assert loaded.notes == ("code in the file ran",)
    x = torch.randn(2, 8)
    assert torch.equal(loaded.module(x), module.eval()(x))


def test_a_pickled_module_takes_no_factory(here, saved):
    with pytest.raises(WrongKindError, match=r"a pickled nn\.Module"):
        load_model("m.pt", factory="a:b", trust_pickle=True)


def test_a_trusted_module_whose_class_is_gone(here, saved):
    (here / f"{saved[0]}.py").unlink()
    with pytest.raises(DependencyMissingError, match=f"No module named '{saved[0]}'") as caught:
        load_model("m.pt", trust_pickle=True)
    assert caught.value.code == "dependency-missing"
    assert "PYTHONPATH" in caught.value.hint


def test_a_trusted_checkpoint_with_objects(here, net_factory, saved):
    with pytest.raises(UntrustedCodeError, match="is a checkpoint"):
        load_model("c.pt", factory=net_factory)
    loaded = load_model("c.pt", factory=net_factory, trust_pickle=True)
    assert loaded.notes == ("took the weights under 'model'; passed over config",)
