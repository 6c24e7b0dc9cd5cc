"""Serving sets that are incomplete, changed or of another version."""

import shutil

import pytest
from edited import edit_json

from nvfp4_trt import Dispatcher, errors
from nvfp4_trt.serving import is_serving_set, read_manifest

pytestmark = pytest.mark.long


@pytest.fixture
def copy(shared, tmp_path):
    shutil.copytree(shared.path, tmp_path / "set")
    return tmp_path / "set"


def test_it_survives_a_move(copy):
    with Dispatcher.load(str(copy), "onnxruntime") as dispatcher:
        assert dispatcher.manifest.buckets[0].name == "1x32"


@pytest.mark.parametrize("file", ["engines/shared.engine", "model.onnx"])
def test_a_file_is_missing(copy, file):
    (copy / file).unlink()
    with pytest.raises(errors.FileMissingError, match=file):
        read_manifest(copy)


def test_no_folder_and_no_manifest(tmp_path):
    assert not is_serving_set(tmp_path)
    with pytest.raises(errors.NotAModelError, match=r"has no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(errors.FileMissingError, match="does not exist"):
        read_manifest(tmp_path / "nowhere")


def test_a_file_is_another(copy):
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(errors.FileTruncatedError, match=r"model\.onnx is not the file"):
        Dispatcher.load(copy, "onnxruntime")
    with (copy / "engines/shared.engine").open("ab") as file:
        file.write(b"x")
    with pytest.raises(errors.FileTruncatedError, match=r"shared\.engine is not the file"):
        Dispatcher.load(copy, "tensorrt_rtx")


EDITS = {
    "another version": (lambda told: told.update(format_version=2), "format_version"),
    "no buckets": (lambda told: told.update(buckets=[]), "buckets"),
    "an extent of 0": (lambda told: told["buckets"][0]["extents"].update(batch=0), "batch"),
    "an unknown key": (lambda told: told.update(colour="red"), "colour"),
    "a path outside": (lambda told: told["buckets"][0].update(file="../x"), "outside of the folder"),
    "an absolute path": (lambda told: told["model"].update(file="/etc/passwd"), "outside of the folder"),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_manifest_that_cannot_be_used(copy, case):
    edit, said = EDITS[case]
    edit_json(copy / "manifest.json", edit)
    with pytest.raises(errors.NotAModelError, match=said):
        read_manifest(copy)


@pytest.mark.parametrize("text", ["", "{", "\udcff", "[]"])
def test_a_manifest_that_is_no_json(copy, text):
    (copy / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(errors.NotAModelError, match=r"manifest\.json"):
        read_manifest(copy)
