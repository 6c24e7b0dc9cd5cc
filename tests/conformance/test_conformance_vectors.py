"""Every implementation here and of the peers, through the conformance runner."""

import json
from importlib import util
from pathlib import Path

import adapters
import pytest

from nvfp4_trt.conformance import check_dequantizer, check_quantizer, read_vectors
from nvfp4_trt.conformance.__main__ import main
from nvfp4_trt.errors import NotAModelError

VECTORS = Path(__file__).parents[1] / "vectors"
RULES = ("spec", "torchao", "modelopt", "compressed-tensors")
BELOW = ("all-zero", "below-the-smallest-scale")  # torchao and ModelOpt do not guard: see docs/conformance.md
NOT_FINITE = ("nan-in-a-block", "infinities")


def vectors(rule):
    return read_vectors(VECTORS / f"{rule}.safetensors")


def test_the_files_are_what_the_script_makes():
    spec = util.spec_from_file_location("make_vectors", VECTORS / "make_vectors.py")
    script = util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert sorted(file.stem for file in VECTORS.glob("*.safetensors")) == sorted(script.RULES)
    for rule in script.RULES:
        made = read_vectors(VECTORS / f"{rule}.safetensors")
        assert [case.name for case in made.cases] == list(script.inputs())
        kept = (VECTORS / f"{rule}.safetensors").read_bytes()
        assert parts(kept) == parts(script.made(rule))


def parts(content):
    """Return a safetensors file's header and bytes: the header's keys have no order of their own."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize("rule", RULES)
def test_ours(rule):
    assert check_quantizer(adapters.ours, vectors(rule)) == []
    assert check_dequantizer(adapters.ours_dequantize, vectors(rule)) == []


@pytest.mark.parametrize("rule", RULES)
def test_the_onnx_function_bodies(rule):
    # They take a scale, not the reciprocal that compressed-tensors computes first.
    inverted = [case.name for case in vectors(rule).cases if case.scaling == "tensor"]
    skip = inverted if rule == "compressed-tensors" else []
    assert check_quantizer(adapters.onnx_bodies, vectors(rule), skip=tuple(skip)) == []
    assert check_dequantizer(adapters.onnx_bodies_dequantize, vectors(rule)) == []


def test_torchao():
    skip = (*BELOW, *NOT_FINITE, "per-token")
    assert check_quantizer(adapters.torchao, vectors("torchao"), skip=skip) == []
    assert check_dequantizer(adapters.torchao_dequantize, vectors("torchao"), ulps=2, skip=("per-token",)) == []


def test_compressed_tensors():
    single = ("single-level", "single-level-small", "per-token")
    assert (
        check_quantizer(adapters.compressed_tensors, vectors("compressed-tensors"), skip=(*NOT_FINITE, *single))
        == []
    )
    assert check_dequantizer(adapters.compressed_tensors_dequantize, vectors("compressed-tensors"), ulps=3) == []


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main([str(argument) for argument in arguments], standalone_mode=False)
    return ended.value.code, *capsys.readouterr()


def test_the_command(capsys):
    file = VECTORS / "spec.safetensors"
    assert run(capsys, file, "adapters:ours") == (0, "spec: 19 of 19 cases agree\n", "")
    assert run(capsys, VECTORS, "adapters:ours_dequantize", "--dequantize")[0] == 0
    status, out, _ = run(capsys, file, "adapters:wrong", "--skip", "all-zero")
    assert status == 1
    assert "of 18 cases agree" in out
    assert "  normal-fp32: packed: " in out
    status, _, err = run(capsys, file, "adapters:none_such")
    assert status == 2
    assert "error[factory-import]" in err
    assert run(capsys, VECTORS / "none", "adapters:ours")[0] == 2


def test_what_differs_is_told():
    found = check_quantizer(adapters.raising, vectors("spec"))
    assert {(each.part, each.what) for each in found} == {("call", "RuntimeError: no kernel")}
    shape = check_dequantizer(lambda *given: given[0], vectors("spec"))
    assert "should be float32 [3, 48]" in str(shape[0])
    last_bit = check_dequantizer(lambda *a: adapters.ours_dequantize(*a) * 1.0000001, vectors("spec"))
    assert {each.part for each in last_bit} == {"output"}


def test_a_file_that_is_no_vectors(tmp_path):
    from safetensors.numpy import save_file

    save_file({}, tmp_path / "x.safetensors")
    with pytest.raises(NotAModelError, match="no conformance vectors"):
        read_vectors(tmp_path / "x.safetensors")
