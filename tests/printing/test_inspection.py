"""What `inspect` shows: objects for programs, tables for people."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from rich.console import Console

from nvfp4_trt import build
from nvfp4_trt.comparison import SQNR_LIMIT, Comparison, OutputMetrics
from nvfp4_trt.errors import FileMissingError, NotAModelError, NotOurOnnxError
from nvfp4_trt.printing import comparison_summary, export_summary, inspect_file, table
from nvfp4_trt.printing.tables import counted, readable_size


def text(parts):
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    return captured.get()


def rows(parts):
    return {line.split()[0]: line.split() for line in text(parts).splitlines() if line.strip()}


@pytest.fixture(scope="session")
def engine(portable, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "mlp.engine"
    return build(portable("mlp").path, path, backend="tensorrt_rtx")


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_a_row_with_a_reason(portable, tmp_path, scale):
    model = onnx.load(portable("mlp").path)
    for tensor in model.graph.initializer:
        if tensor.name == "fc1.weight_per_tensor_scale":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(scale, np.float32), tensor.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    found = inspect_file(tmp_path / "spoilt.onnx")
    json.dumps(found.as_object, allow_nan=False)
    layers = {layer["name"]: layer for layer in found.as_object["layers"]}
    assert layers["fc1"]["weight_scale"] is None
    assert layers["fc1"]["reason"] == f"its per-tensor scale is {scale}"
    assert f"its per-tensor scale is {scale}" in text(found.parts)
    assert layers["fc3"]["weight_scale"] > 0


def test_a_portable_file(portable):
    path = portable("mlp").path
    found = inspect_file(path)
    told = found.as_object
    json.dumps(told, allow_nan=False)
    assert (told["kind"], told["onnx"], told["onnx_bytes"]) == ("onnx", str(path), path.stat().st_size)
    assert told["recipe"]["name"] == "w4a4-dynamic-token"
    assert told["inputs"] == [{"name": "x", "dtype": "FLOAT", "shape": ["batch", 64]}]
    assert told["outputs"] == [{"name": "output", "dtype": "FLOAT", "shape": ["batch", 1]}]
    layers = {layer["name"]: layer for layer in told["layers"]}
    assert list(layers) == ["fc1", "fc2", "fc3", "head"]
    assert layers["fc1"]["bytes"] == 100 * 64 * 9 // 16 + 4
    assert layers["fc1"]["activation_scale"] == "run-time, per token"
    weight = portable("mlp").module.fc1.weight
    assert layers["fc1"]["weight_scale"] == pytest.approx(float(weight.detach().abs().max()) / 2688, rel=1e-6)
    assert "bytes" not in layers["fc2"]


def test_its_table(portable):
    shown = rows(inspect_file(portable("mlp").path).parts)
    assert shown["fc3"][1:3] == ["96x128", "nvfp4"]
    assert shown["fc3"][-1] == "6,916"
    assert " ".join(shown["fc2"][-9:]) == "K = 100 is not a multiple of 16"
    assert shown["input"] == ["input", "x:", "float", "[batch,", "64]"]
    assert shown["recipe"][1] == "w4a4-dynamic-token,"


@pytest.mark.parametrize(
    ("recipe", "scale"),
    [
        ("w4a4-dynamic", "run-time, per tensor"),
        ("w4a4-single-level", "single level"),
        ("w4a16", "none"),
    ],
)
def test_activation_scales_by_recipe(portable, recipe, scale):
    layers = inspect_file(portable("mlp", recipe).path).as_object["layers"]
    assert {layer.get("activation_scale") for layer in layers} == {scale, None}


def test_a_static_scale_is_shown_as_its_number(portable):
    made = portable("mlp", "w4a4-static")
    layer = inspect_file(made.path).as_object["layers"][0]
    assert float(layer["activation_scale"]) == pytest.approx(float(made.batch["x"].abs().max()) / 2688, rel=1e-3)


def test_an_engine(engine):
    told = inspect_file(engine.path).as_object
    json.dumps(told, allow_nan=False)
    assert (told["kind"], told["engine"], told["backend"]) == ("engine", str(engine.path), "tensorrt_rtx")
    assert told["fp4"] == {"requested": 2, "realized": 2}
    assert told["fp4_weights"] == {"requested": 0, "realized": 0}
    assert told["engine_bytes"] == engine.path.stat().st_size
    assert {layer["name"]: layer["realized"] for layer in told["layers"]} == {"fc1": True, "fc3": True}
    assert told["profile"]["x"] == [[1, 64], [3, 64], [12, 64]]


def test_its_tables(engine):
    shown = text(inspect_file(engine.path).parts)
    lines = {line.split("  ")[0]: line.strip() for line in shown.splitlines()}
    assert lines["FP4 GEMMs"].endswith("2/2")
    assert lines["engine"].endswith(f"{engine.path.stat().st_size:,} bytes")
    assert "yes" in lines["fc1"].split()
    assert "\n\n" in shown.replace(" ", "")  # the layers stand apart from the summary


def test_an_engine_that_is_not_its_records(engine, tmp_path):
    path = tmp_path / "mlp.engine"
    path.write_bytes(engine.path.read_bytes()[:-1])
    record = engine.path.with_name("mlp.engine.json").read_text()
    (tmp_path / "mlp.engine.json").write_text(record)
    with pytest.raises(NotAModelError, match="another engine"):
        inspect_file(path)
    (tmp_path / "mlp.engine.json").write_text("{}")
    with pytest.raises(NotAModelError, match="not an engine's record"):
        inspect_file(path)
    (tmp_path / "mlp.engine.json").unlink()
    with pytest.raises(FileMissingError, match=r"mlp\.engine\.json"):
        inspect_file(path)


def test_files_of_others(tmp_path):
    with pytest.raises(FileMissingError):
        inspect_file(tmp_path / "no.onnx")
    with pytest.raises(NotAModelError, match="folder"):
        inspect_file(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(NotAModelError, match=r"x\.onnx"):
        inspect_file(tmp_path / "x.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [value], [out])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(NotOurOnnxError, match=r"other\.onnx"):
        inspect_file(tmp_path / "other.onnx")


def test_names_are_not_taken_for_markup(tmp_path):
    """Rich reads `[bold]` in a text as an instruction: a layer or a file may be named so."""
    (tmp_path / "[bold].onnx").touch()
    layer = SimpleNamespace(name="a[0]", kind="Linear", shape=(2, 32), precision="nvfp4", reason="")
    artifact = SimpleNamespace(
        layers=[layer], path=tmp_path / "[bold].onnx", metadata=SimpleNamespace(recipe={"name": "[red]"})
    )
    shown = text(export_summary(artifact, (), 0))
    assert "a[0]" in shown
    assert "recipe [red]: 1 layer nvfp4" in shown
    assert "[bold].onnx (0.0 KiB)" in shown.replace("\n", "")
    assert text([table("[b] " * 9, ("x",), [("y",)])]).startswith("[b] " * 9)


def test_identical_outputs_are_called_so():
    output = OutputMetrics("y", SQNR_LIMIT, 1.0, 0.0)
    shown = text(comparison_summary(Comparison((output,), 2, "r", "m")))
    assert "m against r, 2 batches" in shown
    assert shown.splitlines()[-1].split() == ["y", "identical", "1.000000", "0"]


@pytest.mark.parametrize(("size", "shown"), [(0, "0.0 KiB"), (2048, "2.0 KiB"), (3 << 20, "3.0 MiB")])
def test_sizes(size, shown):
    assert readable_size(size) == shown


def test_counts():
    assert [counted(1, "layer"), counted(2, "layer"), counted(0, "batch")] == ["1 layer", "2 layers", "0 batches"]
