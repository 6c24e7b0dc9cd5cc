"""Hostile `.pt2` archives: first that torch's own loader runs what they carry, then that ours does not."""

import contextlib
import io
import json
import pickle
import sys
import zipfile

import pytest
import torch
from torch import nn

from nvfp4_trt.errors import NotAModelError, UntrustedCodeError, WrongKindError
from nvfp4_trt.loading import load_model


class Victim(nn.Module):
    """Something for each attack to take hold of: weights, a constant, dynamic shapes, dictionaries."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 16)
        self.k = torch.arange(16.0)

    def forward(self, ids):
        y = torch.relu(self.a(ids)) + self.k
        return {"logits": y, "hidden": ids * 2}


@pytest.fixture
def archive(here):
    """The entries of an ordinary program, by name without the archive's root."""
    dynamic = {"ids": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(Victim().eval(), (torch.ones(2, 8),), dynamic_shapes=dynamic)
    torch.export.save(program, "good.pt2")
    with zipfile.ZipFile("good.pt2") as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def write(archive, name="bad.pt2", extra=()):
    with zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as file:
        for entry, data in (*archive.items(), *extra):
            file.writestr(f"bad/{entry}", data)


def edit(archive, entry, change):
    value = json.loads(archive[entry])
    change(value)
    archive[entry] = json.dumps(value).encode()


def torch_saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def code(marker):
    return f"__import__('os').mkdir({str(marker)!r})"


def graph_of(program):
    return program["graph_module"]["graph"]


def spec_of(program):
    return program["graph_module"]["module_call_graph"][0]["signature"]


def sample_inputs(archive, payload, marker):
    archive["data/sample_inputs/model.pt"] = torch_saved(((payload,), {}))


def legacy_weights(archive, payload, marker):
    archive["data/weights/model.pt"] = torch_saved({"a.weight": payload})


def legacy_constants(archive, payload, marker):
    archive["data/constants/model.pt"] = torch_saved({"k": payload})


def pickled_weight(archive, payload, marker):
    def change(config):
        entry = config["config"]["a.weight"]
        entry["use_pickle"] = True
        archive[f"data/weights/{entry['path_name']}"] = torch_saved(payload)

    edit(archive, "data/weights/model_weights_config.json", change)


def opaque_constant(archive, payload, marker):
    def change(config):
        config["config"]["k"].update(use_pickle=True, path_name="opaque_obj_0")

    edit(archive, "data/constants/model_constants_config.json", change)
    archive["data/constants/opaque_obj_0"] = pickle.dumps(payload)


def shape_expression(archive, payload, marker):
    def change(program):
        graph_of(program)["tensor_values"]["ids"]["sizes"][0]["as_expr"]["expr_str"] = code(marker)

    edit(archive, "models/model.json", change)


def shape_expression_under_a_name_that_is_not_read(archive, payload, marker):
    """A tensor that calls itself `metadata`, a key that vetting passes over where it is the schema's."""
    shape_expression(archive, payload, marker)
    archive["models/model.json"] = archive["models/model.json"].replace(b'"ids"', b'"metadata"')


def enum_in_a_tree(archive, payload, marker):
    _evil_module(marker)

    def change(program):
        tree = json.loads(spec_of(program)["out_spec"])
        enum = {"__enum__": True, "fqn": "evil_module:E", "name": "a"}
        tree[1]["context"] = json.dumps([enum, "hidden"])
        spec_of(program)["out_spec"] = json.dumps(tree)

    edit(archive, "models/model.json", change)


def defaultdict_in_a_tree(archive, payload, marker):
    _evil_module(marker)

    def change(program):
        tree = json.loads(spec_of(program)["out_spec"])
        tree[1]["type"] = "collections.defaultdict"
        tree[1]["context"] = {
            "default_factory_module": "evil_module",
            "default_factory_name": "F",
            "dict_context": ["logits", "hidden"],
        }
        spec_of(program)["out_spec"] = json.dumps(tree)

    edit(archive, "models/model.json", change)


def _evil_module(marker):
    with open("evil_module.py", "w") as file:  # noqa: PTH123 (the tests stand in a folder of their own)
        file.write(f"import os\nos.mkdir({str(marker)!r})\n")


def node_name(archive, payload, marker):
    bad = json.dumps(f"ids={code(marker)}").encode()
    archive["models/model.json"] = archive["models/model.json"].replace(b'"ids"', bad)


ATTACKS = [
    (sample_inputs, r"a pickle that is more than tensors \(data/sample_inputs/model\.pt\)"),
    (legacy_weights, r"a pickle \(data/weights/model\.pt\)"),
    (legacy_constants, r"a pickle \(data/constants/model\.pt\)"),
    (pickled_weight, r"a pickled object \(data/weights/model_weights_config\.json: 'a\.weight'\)"),
    (opaque_constant, r"a pickled object \(data/constants/model_constants_config\.json: 'k'\)"),
    (shape_expression, "a shape expression that is more than arithmetic"),
    (shape_expression_under_a_name_that_is_not_read, "a shape expression that is more than arithmetic"),
    (enum_in_a_tree, "a container type that is not ordinary"),
    (defaultdict_in_a_tree, "a container type that is not ordinary"),
    (node_name, "a name that is none"),
]


@pytest.mark.parametrize(("attack", "said"), ATTACKS)
def test_torch_runs_it_and_we_refuse(here, archive, payload, marker, monkeypatch, attack, said):
    monkeypatch.syspath_prepend(str(here))
    attack(archive, payload, marker)
    write(archive)
    with pytest.raises(UntrustedCodeError, match=said) as caught:
        load_model("bad.pt2")
    assert caught.value.code == "untrusted-code"
    assert "is a torch.export program" in caught.value.message
    assert "nvfp4-trt export bad.pt2 --trust-pickle" in caught.value.hint
    assert not marker.exists()
    with contextlib.suppress(Exception):  # most attacks leave nothing to load once their code has run
        torch.export.load("bad.pt2")
    sys.modules.pop("evil_module", None)
    assert marker.is_dir(), "the attack does nothing: it tests nothing"


def test_guards_in_the_file_are_not_run(here, archive, marker):
    edit(archive, "models/model.json", lambda program: program["guards_code"].append(code(marker)))
    write(archive)
    loaded = load_model("bad.pt2")
    loaded.module(**loaded.example)
    assert not marker.exists()
    with pytest.raises(AssertionError, match="Guard failed"):
        torch.export.load("bad.pt2").module()(torch.ones(2, 8))
    assert marker.is_dir()


@pytest.mark.parametrize(
    "target",
    [
        "torch.serialization.os.system",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "_operator.methodcaller",
        "torch.ops.some_library.op.default",
        "#triton:kernel",
        "math.__loader__",
    ],
)
def test_operators_that_are_not_ordinary(here, archive, target):
    edit(archive, "models/model.json", lambda p: graph_of(p)["nodes"][0].update(target=target))
    write(archive)
    with pytest.raises(UntrustedCodeError, match="an operator that is not PyTorch's own"):
        load_model("bad.pt2")


@pytest.mark.parametrize(
    "expression",
    ["Symbol('x').__class__", "Max('os', 1)", "eval('1')", "(lambda: 0)()", "[1][0]", "Symbol(x)", "1 +", ""],
)
def test_expressions_that_are_not_arithmetic(here, archive, expression):
    def change(program):
        graph_of(program)["tensor_values"]["ids"]["sizes"][0]["as_expr"]["expr_str"] = expression

    edit(archive, "models/model.json", change)
    write(archive)
    with pytest.raises(UntrustedCodeError, match="a shape expression that is more than arithmetic"):
        load_model("bad.pt2")


@pytest.mark.parametrize("name", ['a"+x+"', "a b", "__class__.x", "a.__dict__", "a\nb"])
def test_parameter_names_that_would_leave_their_quotes(here, archive, name):
    quoted = json.dumps(name).encode()
    for entry in ("models/model.json", "data/weights/model_weights_config.json"):
        archive[entry] = archive[entry].replace(b'"a.weight"', quoted)
    write(archive)
    with pytest.raises(UntrustedCodeError, match="a name that is none"):
        load_model("bad.pt2")


def test_argument_names_that_are_none(here, archive):
    edit(archive, "models/model.json", lambda p: spec_of(p).update(forward_arg_names=["ids: 1"]))
    write(archive)
    with pytest.raises(UntrustedCodeError, match="a name that is none"):
        load_model("bad.pt2")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(here, archive, payload):
    write(archive, extra=[("data/sample_inputs/model.pt", torch_saved(((payload,), {})))])
    with pytest.raises(UntrustedCodeError, match="several entries of one name"):
        load_model("bad.pt2")


def test_the_legacy_format_needs_trust(here, payload, marker):
    with zipfile.ZipFile("old.pt2", "w") as file:
        file.writestr("version", "8.8")
        file.writestr("serialized_exported_program.json", "{}")
        file.writestr("serialized_state_dict.pt", torch_saved({"w": payload}))
    with pytest.raises(UntrustedCodeError, match=r"in the format of torch 2\.7 and before"):
        load_model("old.pt2")
    assert not marker.exists()
    with pytest.raises(NotAModelError, match="cannot read"):
        load_model("old.pt2", trust_pickle=True)


def test_compiled_packages_are_refused_even_when_trusted(here, archive):
    archive["data/aotinductor/model/model.so"] = b"\x7fELF"
    write(archive)
    with pytest.raises(WrongKindError, match=r"should hold one torch\.export program"):
        load_model("bad.pt2", trust_pickle=True)


def test_trust_lets_a_pickled_constant_through(here, archive, payload, marker):
    sample_inputs(archive, payload, marker)
    write(archive)
    loaded = load_model("bad.pt2", trust_pickle=True)
    assert marker.is_dir()
    assert loaded.example is None


def test_a_damaged_program_is_no_model(here, archive):
    archive["models/model.json"] = b"{}"
    write(archive)
    with pytest.raises(NotAModelError, match=r"is a \.pt2 archive that torch .* cannot read"):
        load_model("bad.pt2")
