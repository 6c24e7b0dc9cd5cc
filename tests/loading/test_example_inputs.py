"""Example inputs: from options, files, functions and programs; each checked against the forward."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nvfp4_trt.errors import (
    FactoryImportError,
    FactoryResultError,
    FileMissingError,
    InputsMismatchError,
    InputsMissingError,
    InputSpecError,
    ModelRunError,
    NotAModelError,
    WrongKindError,
)
from nvfp4_trt.loading import check_runs, forward_names, load_inputs


class Pair(nn.Module):
    def forward(self, ids, mask, scale=None):
        y = ids * mask
        return y if scale is None else y * scale


class Open(nn.Module):
    def forward(self, x, **rest):
        return x + sum(rest.values())


@pytest.fixture
def pair():
    return Pair()


def one(module, *specs, seed=0):
    (batch,) = load_inputs(module, specs=specs, seed=seed).batches
    return batch


def test_random_inputs(pair):
    specs = ["mask:bool:2x128", "ids:int64:2x128:0..30000"]
    inputs = load_inputs(pair, specs=specs, seed=3)
    assert inputs.random
    assert inputs.origin == "random, seed 3: mask:bool:2x128 ids:int64:2x128:0..30000"
    (batch,) = inputs.batches
    assert list(batch) == ["ids", "mask"]  # the forward's order
    assert batch["ids"].shape == (2, 128)
    assert batch["ids"].dtype == torch.int64
    assert batch["mask"].dtype == torch.bool
    again = one(pair, *specs, seed=3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["ids"], one(pair, *specs, seed=4)["ids"])


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ("int64:400", 0, 1),
        ("uint8:2000:250..255", 250, 255),
        ("int8:2000:-128..-125", -128, -125),
        ("int32:400:7..7", 7, 7),
        ("bool:400", 0, 1),
        ("bool:40:1..1", 1, 1),
    ],
)
def test_integer_ranges_include_both_ends(spec, low, high):
    values = one(nn.ReLU(), f"input:{spec}")["input"].int()
    assert values.min() == low
    assert values.max() == high


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_floats(dtype):
    normal = one(nn.ReLU(), f"input:{dtype}:100x100")["input"]
    assert normal.dtype == getattr(torch, dtype)
    assert abs(normal.double().mean()) < 0.05
    assert abs(normal.double().std() - 1) < 0.05
    uniform = one(nn.ReLU(), f"input:{dtype}:100x100:-2.5..1e1")["input"]
    assert uniform.min() >= -2.5
    assert uniform.max() <= 10
    assert abs(uniform.double().mean() - 3.75) < 0.2


def test_a_scalar():
    assert one(nn.ReLU(), "input:float32:scalar")["input"].shape == ()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("ids", "does not follow its syntax"),
        ("ids:int64", "does not follow its syntax"),
        ("1d:int64:2", "does not follow its syntax"),
        ("ids:int64:2:0..1:3", "does not follow its syntax"),
        ("ids:int65:2", "'int65' is not a dtype"),
        ("ids:int64:2,3", "'2,3' is not a shape"),
        ("ids:int64:0x3", "'0x3' is not a shape"),
        ("ids:int64:", "'' is not a shape"),
        ("ids:int64:2:5", "'5' is not a range"),
        ("ids:int64:2:0.5..1", "is not a range: two whole numbers|'0.5..1' is not a range"),
        ("ids:int64:2:5..4", "is empty, or wider than int64"),
        ("ids:uint8:2:0..256", "is empty, or wider than uint8"),
        ("ids:bool:2:0..2", "is empty, or wider than bool"),
        ("ids:float16:2:0..70000", "is empty, or wider than float16"),
        ("ids:float32:2:nan..1", "is empty, or wider than float32"),
    ],
)
def test_specs_that_are_none(pair, spec, said):
    with pytest.raises(InputSpecError, match=said) as caught:
        load_inputs(pair, specs=[spec])
    assert caught.value.code == "option-syntax"
    assert f"--input {spec!r}" in caught.value.message


def test_specs_twice_or_beside_a_source(pair):
    with pytest.raises(InputSpecError, match="--input ids is given twice"):
        load_inputs(pair, specs=["ids:int64:2", "ids:int64:3"])
    with pytest.raises(InputSpecError, match="--input and --inputs were both given"):
        load_inputs(pair, specs=["ids:int64:2"], source="x.npz")


def test_none_given_lists_the_forwards_parameters(pair):
    with pytest.raises(InputsMissingError, match=r"forward\(ids, mask, scale\)") as caught:
        load_inputs(pair)
    assert caught.value.code == "inputs-missing"
    assert "--input NAME:DTYPE:SHAPE" in caught.value.hint


def test_a_required_name_missing(pair):
    with pytest.raises(InputsMissingError, match=r"the inputs lack mask, of the model's forward\(ids,"):
        load_inputs(pair, specs=["ids:int64:2"])


def test_an_unknown_name(pair):
    with pytest.raises(InputsMismatchError, match="has no parameter 'idz'") as caught:
        load_inputs(pair, specs=["idz:int64:2", "mask:int64:2"])
    assert caught.value.code == "inputs-mismatch"
    assert caught.value.hint == "its parameters are ids, mask, scale"


def test_a_forward_that_takes_any_name():
    batch = one(Open(), "bias:float32:2", "x:float32:2")
    assert list(batch) == ["x", "bias"]
    assert forward_names(Open()).open


def test_the_programs_own_example(pair):
    example = {"ids": torch.ones(2), "mask": torch.ones(2)}
    inputs = load_inputs(pair, example=example)
    assert not inputs.random
    assert inputs.origin == "the program's own example inputs"
    assert torch.equal(inputs.batches[0]["mask"], torch.ones(2))


def test_another_dtype_than_the_programs(pair):
    example = {"ids": torch.ones(2, dtype=torch.int64), "mask": torch.ones(2)}
    with pytest.raises(InputsMismatchError, match=r"ids is torch\.int32, and the program .* torch\.int64"):
        load_inputs(pair, specs=["ids:int32:2", "mask:float32:2"], example=example)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files(here, pair, suffix):
    arrays = {"mask": np.ones((3, 2), np.float32), "ids": np.arange(6).reshape(3, 2)}
    if suffix == "npz":
        np.savez("x.npz", **arrays)
    else:
        save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, "x.safetensors")
    inputs = load_inputs(pair, source=f"x.{suffix}")
    assert inputs.origin == f"x.{suffix}"
    assert not inputs.random
    (batch,) = inputs.batches  # the first axis is not split
    assert list(batch) == ["ids", "mask"]
    assert torch.equal(batch["ids"], torch.arange(6).reshape(3, 2))


def test_files_that_do_not_work(here, pair, payload, marker):
    with pytest.raises(FileMissingError, match=r"inputs x\.npz do not exist"):
        load_inputs(pair, source="x.npz")
    (here / "x.txt").touch()
    with pytest.raises(WrongKindError, match=r"neither a \.npz or \.safetensors file nor"):
        load_inputs(pair, source="x.txt")
    for name in ("x.npz", "x.safetensors"):
        (here / name).write_bytes(b"PK\x03\x04nothing")
        with pytest.raises(NotAModelError, match=f"the inputs {name} cannot be read"):
            load_inputs(pair, source=name)
    np.savez("evil.npz", ids=np.array([payload], dtype=object))
    with pytest.raises(NotAModelError, match=r"the inputs evil\.npz cannot be read"):
        load_inputs(pair, source="evil.npz")
    assert not marker.exists()


FUNCTIONS = """
    import numpy as np
    import torch

    A, B = torch.ones(2), torch.zeros(2)

    def a_dict(): return {"mask": B, "ids": A}
    def a_tuple(): return A, B
    def arrays(): return A.numpy(), B.numpy()
    def a_list_of_tuples(): return [(A, B), [A, B]]
    def generator():
        for _ in range(3):
            yield {"ids": A, "mask": np.zeros(2)}
    def nothing(): return []
    def a_number(): return 3
    def text(): return {"ids": A, "mask": "no"}
    def too_many(): return A, B, A, B
    def raises(): raise OSError("no data")
    def raises_late():
        yield {"ids": A, "mask": B}
        raise OSError("no more data")
"""


@pytest.mark.parametrize(
    ("name", "count"),
    [("a_dict", 1), ("a_tuple", 1), ("arrays", 1), ("a_list_of_tuples", 2), ("generator", 3)],
)
def test_functions(pair, factory, name, count):
    inputs = load_inputs(pair, source=factory(FUNCTIONS, name))
    assert len(inputs.batches) == count
    for batch in inputs.batches:
        assert list(batch) == ["ids", "mask"]
        assert torch.equal(batch["ids"], torch.ones(2))
        assert not batch["mask"].any()


def test_a_function_of_single_tensors(factory):
    spec = factory("import torch\ndef single(): return torch.ones(2)", "single")
    assert list(load_inputs(nn.ReLU(), source=spec).batches[0]) == ["input"]


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nothing", FactoryResultError, "gave no batch"),
        ("a_number", FactoryResultError, "returned a int, not batches"),
        ("text", FactoryResultError, "gave a str where a tensor is needed"),
        ("too_many", InputsMismatchError, "gave 4 tensors, the forward takes ids, mask, scale"),
        ("raises", FactoryImportError, "calling it raised OSError: no data"),
        ("raises_late", FactoryImportError, "iterating over what it returned raised OSError: no more data"),
        ("not_there", FactoryImportError, "has no 'not_there'"),
    ],
)
def test_functions_that_do_not_work(pair, factory, name, error, said):
    with pytest.raises(error, match=said) as caught:
        load_inputs(pair, source=factory(FUNCTIONS, name))
    assert caught.value.code == error.code


def test_check_runs_returns_the_output(pair):
    batch = {"ids": torch.ones(2), "mask": torch.ones(2, requires_grad=True)}
    output = check_runs(pair, batch)
    assert torch.equal(output, torch.ones(2))
    assert not output.requires_grad


@pytest.mark.parametrize(
    ("module", "batch"),
    [
        (nn.Linear(8, 4), {"input": torch.ones(2, 7)}),
        (nn.Linear(8, 4), {"input": torch.ones(2, 8, dtype=torch.float64)}),
        (nn.Embedding(4, 2), {"input": torch.tensor([9])}),
        (nn.Conv1d(3, 3, 1), {"input": torch.ones(2, 4, 5)}),
    ],
)
def test_inputs_that_do_not_fit_a_layer(module, batch):
    with pytest.raises(InputsMismatchError, match=r"the model raised on input \[.*Error") as caught:
        check_runs(module, batch)
    assert "\n" not in caught.value.message


def test_inputs_that_do_not_fit_the_forward(pair):
    with pytest.raises(InputsMismatchError, match="does not take ids: missing a required argument"):
        check_runs(pair, {"ids": torch.ones(2)})


class Broken(nn.Module):
    def forward(self, x):
        raise KeyError(f"weights {x}\nand more")


def test_a_model_that_raises():
    with pytest.raises(ModelRunError, match=r"raised on x \[2\] float32: KeyError") as caught:
        check_runs(Broken(), {"x": torch.ones(2)})
    assert caught.value.code == "model-run"
