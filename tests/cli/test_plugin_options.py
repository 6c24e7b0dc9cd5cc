"""`--plugin` on the command line: its optional value, its contradictions, what TensorRT-RTX answers."""

import json

import click
import onnx
import onnxruntime
import pytest

from nvfp4_trt.cli.build import engine
from nvfp4_trt.cli.plugin_option import chosen_plugin


@pytest.mark.parametrize(
    ("words", "plugin"),
    [
        (("net.onnx", "-o", "e"), False),
        (("net.onnx", "-o", "e", "--no-plugin"), False),
        (("--plugin", "net.onnx", "-o", "e"), True),  # the model is not taken for a pack
        (("net.onnx", "--plugin", "-o", "e"), True),
        (("net.onnx", "-o", "e", "--plugin=packs/mine"), "packs/mine"),
        (("-o", "e", "--plugin", "--", "net.onnx"), True),
    ],
)
def test_what_the_words_ask_for(words, plugin):
    given = engine.make_context("engine", list(words)).params
    assert given["model"].name == "net.onnx"
    found = chosen_plugin(given["plugin"], no_plugin=given["no_plugin"], library=given["plugin_library"])
    assert found is plugin if isinstance(plugin, bool) else str(found) == plugin


@pytest.mark.parametrize("word", ["--plugin", "--plugin=pack", "--plugin-library=lib.so"])
def test_contradictions(word):
    given = engine.make_context("engine", ["m", "-o", "e", "--no-plugin", word]).params
    with pytest.raises(click.UsageError, match="exclude each other"):
        chosen_plugin(given["plugin"], no_plugin=given["no_plugin"], library=given["plugin_library"])


def test_a_contradiction_is_a_usage_error(fails):
    fails(
        ("build", "engine", "net.onnx", "-o", "{out}/e", "--plugin", "--no-plugin"),
        status=2,
        code="usage",
        said="--plugin and --no-plugin",
    )


@pytest.mark.parametrize("words", [("--plugin",), ("--plugin=nowhere",), ("--plugin-library", "lib.so")])
def test_rtx_builds_no_plugins_and_says_so_before_it_reads_anything(fails, words):
    error = fails(
        ("build", "engine", "nowhere.onnx", "-o", "{out}/e", "--backend", "tensorrt_rtx", *words),
        status=3,
        code="plugins-unsupported",
        said="tensorrt_rtx builds no plugins",
    )
    assert "drop --plugin" in error["hint"]


def test_lowering_to_plugin_nodes(run, exported, tmp_path):
    told = run("lower", "net.onnx", "-o", tmp_path / "net.trt.onnx", "--plugin", "--json").json
    model = onnx.load(tmp_path / "net.trt.onnx")
    kinds = [node.op_type for node in model.graph.node if node.domain == "nvfp4.plugin"]
    assert kinds.count("Nvfp4Gemm") == told["plugin_gemms"] > 0
    assert "Nvfp4Quantize" in kinds
    assert not [f for f in model.functions if f.domain == "nvfp4.plugin"]


def test_lowering_with_bodies_runs_on_onnx_runtime(run, exported, tmp_path):
    path = tmp_path / "net.bodies.onnx"
    assert run("lower", "net.onnx", "-o", path, "--plugin", "--bodies").status == 0
    onnx.checker.check_model(str(path), full_check=True)
    names = [each.name for each in onnxruntime.InferenceSession(str(path)).get_outputs()]
    assert names == [each.name for each in onnx.load(path).graph.output]


def test_bodies_without_plugin_nodes(fails):
    fails(
        ("lower", "net.onnx", "-o", "{out}/l.onnx", "--bodies"), status=2, code="usage", said="--bodies goes with"
    )


def test_lowering_without_plugins_counts_none(run, exported, tmp_path):
    told = run("lower", "net.onnx", "-o", tmp_path / "net.trt.onnx", "--json")
    assert json.loads(told.out)["plugin_gemms"] == 0
