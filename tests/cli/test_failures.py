"""Every bad input: its code, what the message names, its exit status, and that nothing is left behind."""

import onnx
import pytest
from onnx import helper

NET = ("--model", "cli_models:Net")
X = ("--inputs", "x.npz")
OUT = ("-o", "{out}/a.onnx")

EXPORT = [
    # files
    (("nowhere.pt", *NET, *X), "file-missing", "nowhere.pt does not exist"),
    (("cut.pt", *NET, *X), "file-truncated", "cut.pt"),
    (("text.pt", *NET, *X), "not-a-model", "text.pt is a text file"),
    (("other.onnx", *X), "wrong-kind", "other.onnx is an ONNX file"),
    (("x.npz", *X), "wrong-kind", "x.npz is a NumPy archive"),
    (("w.pt", *X), "wrong-kind", "w.pt is a state dict"),
    (("m.pt", *X), "untrusted-code", "cli_models.Net"),
    (("m.pt", *NET, *X, "--trust-pickle"), "wrong-kind", "m.pt (a pickled nn.Module)"),
    ((".", *X), "not-a-model", "no config.json"),
    # factories
    (("w.pt", "--model", "no_such_module:Net", *X), "factory-import", "no_such_module"),
    (("w.pt", "--model", "cli_models:Nett", *X), "factory-import", "has no 'Nett'"),
    (("w.pt", "--model", "cli_models:constant", *X), "factory-import", "an int, which cannot be called"),
    (("w.pt", "--model", "cli_models:broken", *X), "factory-import", "ValueError: no such configuration"),
    (("w.pt", "--model", "cli_models:number", *X), "factory-result", "returned a int, not an nn.Module"),
    (("w.pt", "--model", "cli_models", *X), "option-syntax", "'cli_models'"),
    (("w.pt", "--model", "cli_models:tiny", *X), "state-dict-mismatch", "w.pt does not fit"),
    # inputs
    (("w.pt", *NET), "inputs-missing", "forward(x)"),
    (("w.pt", *NET, "--input", "x:float32:4x63"), "inputs-mismatch", "x [4, 63] float32"),
    (("w.pt", *NET, "--input", "x:int64:4x64"), "inputs-mismatch", "x [4, 64] int64"),
    (("w.pt", *NET, "--input", "y:float32:4x64"), "inputs-mismatch", "no parameter 'y'"),
    (("w.pt", *NET, "--input", "x:float32"), "option-syntax", "--input 'x:float32'"),
    (("w.pt", *NET, "--input", "x:float32:4x64", *X), "option-syntax", "--input and --inputs"),
    (("w.pt", *NET, "--inputs", "nowhere.npz"), "file-missing", "nowhere.npz"),
    (("w.pt", *NET, "--inputs", "w.pt"), "wrong-kind", "--inputs w.pt"),
    (("w.pt", *NET, "--inputs", "cli_models:number"), "factory-result", "returned a int"),
    (("w.pt", *NET, *X, "--dynamic", "batch,a,b-c"), "option-syntax", "'batch,a,b-c'"),
    (("w.pt", *NET, *X, "--dynamic", "z:batch"), "option-syntax", "no input 'z'"),
    (
        ("w.pt", *NET, "--input", "x:float32:4x63", "--recipe", "w4a4-static"),
        "inputs-mismatch",
        "x [4, 63] float32",
    ),
    # values
    (("nan.pt", *NET, *X), "nonfinite-weight", "down.weight holds 1 values"),
    (("inf.pt", *NET, *X), "nonfinite-weight", "down.weight holds 1 values"),
    (("w.pt", *NET, "--inputs", "nan.npz", "--recipe", "w4a4-static"), "nonfinite-calibration", "the layer up"),
    (("w.pt", *NET, "--inputs", "inf.npz", "--recipe", "w4a4-static"), "nonfinite-calibration", "the layer up"),
    # recipes and patterns
    (("w.pt", *NET, *X, "--recipe", "w4a5"), "recipe-invalid", "'w4a5'"),
    (("w.pt", *NET, *X, "--recipe", "nowhere.yaml"), "file-missing", "nowhere.yaml"),
    (("w.pt", *NET, *X, "--only", "dwon"), "pattern-no-match", "--only 'dwon' matches none"),
    (("w.pt", *NET, *X, "--exclude", "heda"), "pattern-no-match", "--exclude 'heda' matches none"),
    (("w.pt", *NET, *X, "--exclude", "*"), "nothing-to-quantize", "up: excluded by pattern"),
    (
        ("tiny.pt", "--model", "cli_models:tiny", "--input", "x:float32:2x8"),
        "nothing-to-quantize",
        "fc: K = 8 is not a multiple of 16",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "said"), EXPORT, ids=[f"{c}: {s}" for _, c, s in EXPORT])
def test_export(fails, arguments, code, said):
    fails(("export", *arguments, *OUT), status=2, code=code, said=said)


PACK = [
    (("nowhere.safetensors",), "file-missing", "nowhere.safetensors does not exist"),
    (("cut.safetensors",), "file-truncated", "cut.safetensors ends within the tensor fc.weight"),
    (("nan.safetensors",), "nonfinite-weight", "the weight fc.weight holds 262144 values"),
    (("w.pt",), "wrong-kind", "w.pt is not a safetensors file"),
    (("big.safetensors", "--only", "cf"), "pattern-no-match", "--only 'cf' matches none of the 1 layers"),
    (("big.safetensors", "--exclude", "fc"), "nothing-to-quantize", "all 1 weights"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), PACK, ids=[f"{c}: {s}" for _, c, s in PACK])
def test_pack(fails, arguments, code, said):
    fails(("pack", *arguments, "-o", "{out}/p.safetensors"), status=2, code=code, said=said)


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("cut.safetensors", "file-truncated", "cut.safetensors ends within the tensor fc.weight"),
        ("nan.safetensors", "nonfinite-weight", "the weight fc.weight holds 262144 values"),
    ],
)
def test_export_of_safetensors(fails, file, code, said):
    arguments = ("export", file, "--model", "cli_models:big", "--input", "x:float32:4x512", *OUT)
    fails(arguments, status=2, code=code, said=said)


RECIPES = {
    "unknown key": ("wieghts: {rule: spec}", "wieghts: unknown key"),
    "unknown base": ("base: w4a5", "base 'w4a5' is not a built-in recipe"),
    "unknown scaling": ("activations: {scaling: statik}", "activations.scaling"),
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(fails, tmp_path, case):
    text, said = RECIPES[case]
    (tmp_path / "mine.yaml").write_text(text)
    error = fails(
        ("export", "w.pt", *NET, *X, "--recipe", tmp_path / "mine.yaml", *OUT),
        status=2,
        code="recipe-invalid",
        said=said,
    )
    assert "mine.yaml" in error["message"]


def test_a_pattern_without_a_match_names_the_nearest_layer(fails):
    said = "--only 'donw' matches none of the 4 layers"
    error = fails(
        ("export", "w.pt", *NET, *X, "--only", "donw", *OUT), status=2, code="pattern-no-match", said=said
    )
    assert "the nearest layer is 'down'" in error["hint"]


OURS = [
    ("nowhere.onnx", "file-missing", "nowhere.onnx does not exist"),
    ("other.onnx", "onnx-not-nvfp4", "other.onnx"),
    ("text.pt", "not-a-model", "text.pt"),
    ("w.pt", "not-a-model", "w.pt"),
]
TAKERS = {
    "build": (("build", "engine"), ("-o", "{out}/e.engine")),
    "lower": (("lower",), ("-o", "{out}/l.onnx")),
    "inspect": (("inspect",), ()),
    "compare": (("compare",), ("--reference", "w.pt", *NET, *X)),
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(("file", "code", "said"), OURS)
def test_what_is_no_portable_file(fails, taker, file, code, said):
    before, after = TAKERS[taker]
    fails((*before, file, *after), status=2, code=code, said=said)


def test_a_lowered_file_is_not_portable_any_more(fails, run, exported, tmp_path):
    assert run("lower", "net.onnx", "-o", tmp_path / "l.onnx").status == 0
    fails(
        ("build", "engine", tmp_path / "l.onnx", "-o", "{out}/e"), status=2, code="onnx-not-nvfp4", said="l.onnx"
    )


BUILD = [
    (("--target", "sm_100", "--backend", "tensorrt_rtx"), 2, "target-unsupported", "for sm_100"),
    (("--target", "sm_89", "--backend", "tensorrt_rtx"), 2, "target-unsupported", "for sm_89"),
    (("--target", "blackwell", "--backend", "tensorrt_rtx"), 2, "target-unsupported", "for blackwell"),
    (("--dim", "batch=4:2:1"), 2, "profile-invalid", "batch=4:2:1"),
    (("--dim", "sequence=1:2:3"), 2, "profile-invalid", "sequence"),
    (("--dim", "batch=one"), 2, "option-syntax", "batch=one"),
    (("--allow-higher-precision", "nope"), 2, "pattern-no-match", "'nope'"),
]


@pytest.mark.parametrize(("arguments", "status", "code", "said"), BUILD, ids=[" ".join(c[0]) for c in BUILD])
def test_build(fails, exported, arguments, status, code, said):
    fails(("build", "engine", "net.onnx", "-o", "{out}/e", *arguments), status=status, code=code, said=said)


def test_a_target_names_the_backend_that_builds_for_it(fails, exported):
    arguments = ("--target", "sm_100", "--backend", "tensorrt_rtx", "-o", "{out}/e")
    error = fails(
        ("build", "engine", "net.onnx", *arguments), status=2, code="target-unsupported", said="tensorrt_rtx"
    )
    assert error["hint"] == "it builds for sm_120, sm_121; tensorrt builds for sm_100"


def test_what_tensorrt_refuses(fails, exported, tmp_path):
    """The portable file with an operator in it that no parser knows."""
    model = onnx.load(exported[0])
    first = model.graph.output[0]
    model.graph.node.append(helper.make_node("Strange", [first.name], ["strange"], domain="elsewhere"))
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    first.name = "strange"
    onnx.save(model, tmp_path / "strange.onnx")
    fails(
        ("build", "engine", tmp_path / "strange.onnx", "-o", "{out}/e"),
        status=4,
        code="parse-failed",
        said="parser refused the lowered model",
    )


def test_inspecting_an_engine_without_its_record(fails, tmp_path):
    (tmp_path / "x.engine").write_bytes(b"engine")
    fails(("inspect", tmp_path / "x.engine"), status=2, code="file-missing", said="x.engine.json")


def test_inspecting_a_folder(fails):
    fails(("inspect", "."), status=2, code="not-a-model", said="is a folder")


def test_comparing_with_another_model(fails, exported):
    arguments = ("--reference", "tiny.pt", "--model", "cli_models:tiny", "--input", "x:float32:2x8")
    fails(("compare", "net.onnx", *arguments), status=2, code="inputs-mismatch", said="x of shape [batch, 64]")


OUTPUTS = {
    "missing folder": ("{out}/no/a", "out/no of a does not exist"),
    "a folder": ("{out}", "is a folder"),
    "under a file": ("w.pt/a", "w.pt, where a should go, is not a folder"),
    "refused even to root": ("/proc/self/a", "/proc/self"),
}


@pytest.mark.parametrize("case", OUTPUTS)
@pytest.mark.parametrize("command", ["export", "build", "lower"])
def test_outputs_that_cannot_be_written(fails, exported, case, command):
    path, said = OUTPUTS[case]
    given = {
        "export": ("export", "w.pt", *NET, *X),
        "build": ("build", "engine", "net.onnx"),
        "lower": ("lower", "net.onnx"),
    }[command]
    fails((*given, "-o", path), status=2, code="output-unwritable", said=said)


@pytest.mark.parametrize("option", ["--save-inputs", "--save-outputs"])
def test_compare_looks_at_its_outputs_first(fails, exported, option):
    fails(
        ("compare", "net.onnx", "--reference", "nowhere.pt", option, "{out}/no/a.json"),
        status=2,
        code="output-unwritable",
        said="out/no",
    )


USAGE = [
    ((), "no command was given"),
    (("exprt",), "No such command 'exprt'"),
    (("export",), "Missing argument 'MODEL'"),
    (("export", "w.pt"), "Missing option '-o'"),
    (("export", "w.pt", "-o", "a", "--colour"), "No such option"),
    (("export", "w.pt", "-o", "a", "--dtype", "int8"), "'int8' is not one of"),
    (("export", "w.pt", "-o", "a", "--seed", "x"), "'x' is not a valid integer"),
    (("build", "engine", "net.onnx", "-o", "e", "--backend", "onnxruntime"), "'onnxruntime' is not one of"),
    (("compare", "net.onnx"), "Missing option '--reference'"),
]


@pytest.mark.parametrize(("arguments", "said"), USAGE, ids=[said for _, said in USAGE])
def test_usage(fails, run, arguments, said):
    if arguments:
        assert "--help" in fails(arguments, status=2, code="usage", said=said)["hint"]
    plain = run(*arguments)
    assert plain.status == 2
    assert plain.out == ""
    assert plain.err.startswith("error[usage]: ")
    assert said in plain.err
    assert plain.err.splitlines()[-1].startswith("hint: nvfp4-trt")


def test_failures_for_people_are_two_lines_on_standard_error(run):
    ran = run("inspect", "nowhere.onnx")
    assert ran == (2, "", "error[file-missing]: nowhere.onnx does not exist\nhint: check the path\n")


def test_debug_adds_the_traceback_and_changes_nothing_else(run):
    ran = run("inspect", "nowhere.onnx", "--debug", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (2, "file-missing")
    assert ran.err.startswith("Traceback")
    assert "FileMissingError: nowhere.onnx does not exist" in ran.err
