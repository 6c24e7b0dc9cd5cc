"""Converting and exporting: what a checkpoint says by layer, names, recipes, shards, and what has no place."""

import json

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import nvfp4_trt
from nvfp4_trt.checkpoints import Scale, read_checkpoint
from nvfp4_trt.checkpoints.weights import inverse
from nvfp4_trt.cli.main import cli
from nvfp4_trt.errors import Nvfp4Error


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(48, 64)
        self.up, self.down = nn.Linear(64, 96), nn.Linear(96, 64)

    def forward(self, ids):
        return self.down(self.up(self.words(ids)).relu())


def factory():
    return Two()


def edited(path, out, change):
    """Write a packed file anew, what it says of each weight changed."""
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), load_file(path)
    said = json.loads(metadata["nvfp4.weights"])
    change(said, tensors)
    save_file(tensors, out, metadata | {"nvfp4.weights": json.dumps(said)})
    return out


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed file: `up` static, `down` weight-only, the embedding packed too."""
    root = tmp_path_factory.mktemp("two")
    torch.manual_seed(0)
    save_file(Two().state_dict(), root / "float.safetensors")
    nvfp4_trt.pack(root / "float.safetensors", root / "unsaid.safetensors")

    def say(said, tensors):
        said["up.weight"]["activation"] = "static"
        tensors["up.weight_input_scale"] = torch.tensor(0.00123)
        said["down.weight"]["activation"] = "none"

    edited(root / "unsaid.safetensors", root / "mixed.safetensors", say)
    return root


def scalings(path):
    return {
        name: None if weight.activation is None else str(weight.activation.scaling)
        for name, weight in read_checkpoint(path).weights.items()
    }


@pytest.mark.parametrize("to", ["torchao", "compressed-tensors", "modelopt"])
def test_static_and_weight_only_layers_beside_each_other(packed, tmp_path, to):
    nvfp4_trt.convert(packed / "mixed.safetensors", tmp_path / "there", to=to)
    assert scalings(tmp_path / "there") == {"up.weight": "static", "down.weight": "none", "words.weight": None}
    nvfp4_trt.convert(tmp_path / "there", tmp_path / "back.safetensors", to="packed")
    assert scalings(tmp_path / "back.safetensors") == scalings(packed / "mixed.safetensors")


def test_half_of_all_scales_survive_two_inversions_and_the_others_are_carried(packed, tmp_path):
    lossy = next(x for x in (1 + i / 4096 for i in range(4096)) if inverse(inverse(x)) != x)

    def change(_said, tensors):
        tensors["up.weight_per_tensor_scale"] = torch.tensor(lossy)

    source = edited(packed / "mixed.safetensors", tmp_path / "lossy.safetensors", change)
    nvfp4_trt.convert(source, tmp_path / "ct", to="compressed-tensors")
    stored = load_file(tmp_path / "ct" / "model.safetensors")["up.weight_global_scale"]
    assert stored.item() == inverse(lossy)
    assert read_checkpoint(tmp_path / "ct").weights["up.weight"].scale == Scale(lossy)
    # A peer that changes the scale and leaves the header is believed, not the header.
    with safe_open(tmp_path / "ct" / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    tensors = load_file(tmp_path / "ct" / "model.safetensors") | {"up.weight_global_scale": torch.tensor([3.0])}
    save_file(tensors, tmp_path / "ct" / "model.safetensors", metadata)
    assert read_checkpoint(tmp_path / "ct").weights["up.weight"].scale == Scale(3.0, reciprocal=True)


def export(source, tmp_path, **options):
    specs = ["ids:int64:2x8:0..47"]
    options = {"factory": "test_convert_and_export:factory"} | options
    return nvfp4_trt.export(source, tmp_path / "m.onnx", input_specs=specs, **options)


def precisions(artifact):
    return {layer.name: layer.precision for layer in artifact.layers}


def test_export_follows_the_checkpoint_by_layer(packed, tmp_path):
    artifact = export(packed / "mixed.safetensors", tmp_path)
    assert precisions(artifact) == {"up": "nvfp4", "down": "nvfp4-weight-only", "words": "nvfp4"}
    result = nvfp4_trt.compare(
        artifact, packed / "float.safetensors", factory="test_convert_and_export:factory",
        input_specs=["ids:int64:2x8:0..47"],
    )  # fmt: skip
    assert result.outputs[0].sqnr_db > 10


def test_what_a_checkpoint_does_not_say_the_recipe_does(packed, tmp_path):
    activations = export(packed / "unsaid.safetensors", tmp_path).metadata.recipe["activations"]
    assert {key: value for key, value in activations.items() if value is not None} == {"scaling": "dynamic-token"}
    assert set(precisions(export(packed / "mixed.safetensors", tmp_path, recipe="w4a16")).values()) == {
        "nvfp4-weight-only",
        "nvfp4",
    }
    with pytest.raises(Nvfp4Error, match=r"no static input scale for the layer of (up|down|words)") as caught:
        export(packed / "unsaid.safetensors", tmp_path, recipe="w4a4-static")
    assert caught.value.code == "checkpoint-config"


def test_the_rule_that_a_file_was_packed_by_is_told(packed, tmp_path):
    nvfp4_trt.pack(packed / "float.safetensors", tmp_path / "m.safetensors", rule="modelopt")
    assert export(tmp_path / "m.safetensors", tmp_path).metadata.scale_rule == "modelopt"


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(48, 64, max_norm=1.0)
        self.up, self.down = nn.Linear(64, 96), nn.Linear(96, 64)


def other():
    return Other()


@pytest.mark.parametrize(
    ("name", "options", "code", "text"),
    [
        ("mixed.safetensors", {"only": ["up"]}, "wrong-kind", "is quantized already"),
        ("mixed.safetensors", {"factory": None}, "wrong-kind", "no module to put them in"),
        ("mixed.safetensors", {"factory": "torch.nn:Identity"}, "state-dict-mismatch", "unexpected"),
        ("mixed.safetensors", {"factory": "test_convert_and_export:other"}, "wrong-kind", "of words is packed"),
    ],
)
def test_exports_that_cannot_be(packed, tmp_path, name, options, code, text):
    with pytest.raises(Nvfp4Error, match=text) as caught:
        export(packed / name, tmp_path, **options)
    assert caught.value.code == code
    assert not (tmp_path / "m.onnx").exists()


def test_shards_are_read_and_files_beside_are_kept(packed, tmp_path):
    nvfp4_trt.convert(packed / "mixed.safetensors", tmp_path / "whole", to="compressed-tensors")
    tensors = load_file(tmp_path / "whole" / "model.safetensors")
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    (tmp_path / "parts").mkdir()
    homes = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for home in set(homes.values()):
        save_file({n: t for n, t in tensors.items() if homes[n] == home}, tmp_path / "parts" / home, metadata)
    (tmp_path / "parts" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    (tmp_path / "parts" / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    (tmp_path / "parts" / "tokenizer.json").write_text("{}")
    nvfp4_trt.convert(tmp_path / "parts", tmp_path / "again", to="compressed-tensors")
    found = load_file(tmp_path / "again" / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[n].view(-1).view(torch.uint8), t.view(-1).view(torch.uint8)) for n, t in tensors.items()
    )
    assert {file.name for file in (tmp_path / "again").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_the_command(packed, tmp_path):
    arguments = ["convert", str(packed / "mixed.safetensors"), str(tmp_path / "mo"), "--to", "modelopt"]
    told = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout) == {
        "checkpoint": str(tmp_path / "mo"),
        "from": "packed",
        "to": "modelopt",
        "weights": ["down.weight", "up.weight", "words.weight"],
        "copied": 2,
        "bytes": (tmp_path / "mo" / "model.safetensors").stat().st_size,
    }
    arguments[2] = str(tmp_path / "people")
    told = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "packed → modelopt, 3 weights, 2 other tensors" in told.stdout
