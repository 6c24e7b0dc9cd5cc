import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvfp4_trt.errors import NotOurOnnxError
from nvfp4_trt.layers import Layer
from nvfp4_trt.portable import Metadata, load, package_versions, read_metadata
from nvfp4_trt.recipe import RECIPES, Recipe

words = st.text(max_size=12)
layers = st.builds(
    Layer,
    name=words,
    kind=words,
    shape=st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    precision=st.sampled_from(["nvfp4", "nvfp4-weight-only", "float16"]),
    reason=words,
)
metadata = st.builds(
    Metadata,
    recipe=st.sampled_from([recipe.model_dump(mode="json") for recipe in RECIPES.values()]),
    layers=st.lists(layers, max_size=3).map(tuple),
    scale_rule=st.sampled_from(["spec", "modelopt"]),
    source_sha256=words,
    example_shapes=st.dictionaries(words, st.lists(st.integers(0, 9), max_size=3), max_size=2),
    versions=st.dictionaries(words, words, max_size=2),
)


@given(metadata)
def test_round_trip(made):
    assert read_metadata(made.as_props(), file="m.onnx") == made


def props(**over):
    made = Metadata({}, (Layer("fc", "Linear", (8, 32), "nvfp4"),), "spec", "0" * 64, {"x": [1, 32]}, {})
    changed = made.as_props() | {f"nvfp4.{key}": value for key, value in over.items()}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize("missing", ["recipe", "layers", "scale_rule", "operator_version", "example_shapes"])
def test_a_missing_entry(missing):
    with pytest.raises(NotOurOnnxError, match=r"m\.onnx was not exported by nvfp4-trt"):
        read_metadata(props(**{missing: None}), file="m.onnx")


@pytest.mark.parametrize("layers", ["[", "3", '[{"name": "fc"}]', '[{"name": "fc", "shape": 3}]', "null"])
def test_a_broken_entry(layers):
    with pytest.raises(NotOurOnnxError):
        read_metadata(props(layers=layers), file="m.onnx")


def test_an_entry_of_a_later_time():
    with pytest.raises(NotOurOnnxError):
        read_metadata(props(novelty="1"), file="m.onnx")


def test_another_version_of_the_operators():
    with pytest.raises(NotOurOnnxError, match="version 2 of the nvfp4 operators; this is 1"):
        read_metadata(props(operator_version="2"), file="m.onnx")


def test_other_peoples_entries_are_ignored():
    assert read_metadata(props() | {"author": "me", "nvfp": "{"}, file="m.onnx").source_sha256 == "0" * 64


def test_entries_are_json_in_one_order():
    for text in props().values():
        assert json.dumps(json.loads(text), sort_keys=True) == text


def test_versions_are_of_what_is_installed():
    found = package_versions()
    assert set(found) == {"nvfp4-trt", "torch", "onnx", "onnx-ir", "onnxscript"}
    assert all(version[0].isdigit() for version in found.values())


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_exported_file_carries_its_recipe_and_layers(portable, recipe):
    exported = portable("heads", recipe)
    _, found = load(exported.path)
    assert Recipe.model_validate(found.recipe) == RECIPES[recipe]
    assert {layer.name for layer in found.layers if layer.quantized} == {
        "query",
        "key",
        "value",
        "out",
        "pooler",
    }
    assert found.example_shapes == {"x": [2, 6, 64]}
    assert found.versions == package_versions()
