import numpy as np
import onnx
import pytest

from nvfp4_trt.errors import (
    FileMissingError,
    FileTruncatedError,
    NotAModelError,
    NotOurOnnxError,
    OnnxInvalidError,
    OutputUnwritableError,
)
from nvfp4_trt.passes import lower
from nvfp4_trt.portable import load, save


def arrays(model):
    return {name: v.const_value.tobytes() for name, v in model.graph.initializers.items()}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("limit", [2**30, 0])
def test_round_trip_in_one_file_or_with_its_weights_beside(portable, tmp_path, limit):
    model, metadata = load(portable("heads").path)
    expected = arrays(model)
    save(model, tmp_path / "copy.onnx", limit=limit)
    assert names_in(tmp_path) == ["copy.onnx", "copy.onnx.data"][: 1 if limit else 2]
    again, metadata_again = load(tmp_path / "copy.onnx")
    assert arrays(again) == expected
    assert metadata_again == metadata


def test_external_data_moves_with_its_folder(portable, tmp_path):
    model, _ = load(portable("heads").path)
    (tmp_path / "a").mkdir()
    save(model, tmp_path / "a" / "m.onnx", limit=0)
    (tmp_path / "a").rename(tmp_path / "b")
    again, _ = load(tmp_path / "b" / "m.onnx")
    assert arrays(again) == arrays(load(portable("heads").path)[0])


def test_missing_external_data(portable, tmp_path):
    model, _ = load(portable("heads").path)
    save(model, tmp_path / "m.onnx", limit=0)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(FileMissingError, match=r"keeps its weights in m\.onnx\.data, which is missing"):
        load(tmp_path / "m.onnx")


def test_no_file(tmp_path):
    with pytest.raises(FileMissingError, match=r"none\.onnx does not exist"):
        load(tmp_path / "none.onnx")


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(FileTruncatedError, match=r"empty\.onnx is empty"):
        load(tmp_path / "empty.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(NotAModelError, match=r"folder\.onnx is a folder"):
        load(tmp_path / "folder.onnx")


@pytest.mark.parametrize("content", [b"not a model", b"\x80\x02", np.arange(999, dtype=np.uint8).tobytes()])
def test_not_a_model(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(NotAModelError, match="is not an ONNX file"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(portable, tmp_path, share):
    data = portable("heads").path.read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FileTruncatedError, match="ends too early"):
        load(tmp_path / "m.onnx")


def beside(portable, folder):
    """Write a file with all of its tensors beside it, small ones too, and return both."""
    model = onnx.load(portable("heads").path)
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx", folder / "m.data"


def test_small_tensors_beside_a_file_are_written_into_the_next(portable, tmp_path):
    path, data = beside(portable, tmp_path)
    save(load(path)[0], tmp_path / "n.onnx")
    data.unlink()
    onnx.checker.check_model(onnx.load(tmp_path / "n.onnx"))
    ours, theirs = (onnx.load(each).graph.initializer for each in (tmp_path / "n.onnx", portable("heads").path))
    arrays = [{t.name: onnx.numpy_helper.to_array(t).tobytes() for t in each} for each in (ours, theirs)]
    assert arrays[0] == arrays[1]


def test_external_data_that_ends_too_early_names_the_tensor(portable, tmp_path):
    path, data = beside(portable, tmp_path)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(FileTruncatedError, match=r"m\.data ends within the tensor"):
        load(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret"])
def test_data_of_another_folder_is_not_read(portable, tmp_path, location):
    (tmp_path / "secret").write_bytes(bytes(10**6))
    (tmp_path / "here").mkdir()
    path, _ = beside(portable, tmp_path / "here")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxInvalidError, match="outside of the file's folder"):
        load(path)


def test_a_tensor_of_too_few_bytes(portable, tmp_path):
    model = onnx.load(portable("heads").path)
    next(t for t in model.graph.initializer if t.name == "query.weight_packed").raw_data = b"1234"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(OnnxInvalidError, match=r"'query\.weight_packed' has 4 bytes, and its shape takes 2048"):
        load(tmp_path / "m.onnx")


def test_somebody_elses_model(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(NotOurOnnxError, match="lacks its metadata"):
        load(tmp_path / "m.onnx")


def test_a_lowered_model(portable, tmp_path):
    model, _ = load(portable("rows").path)
    lower(model)
    save(model, tmp_path / "m.onnx")
    with pytest.raises(NotOurOnnxError, match="lowered already"):
        load(tmp_path / "m.onnx")


def test_a_model_that_fails_the_check_is_not_written(portable, tmp_path):
    model, _ = load(portable("rows").path)
    next(node for node in model.graph if node.op_type == "Gelu").op_type = "Gulp"
    with pytest.raises(onnx.checker.ValidationError, match="Gulp"):
        save(model, tmp_path / "m.onnx")
    assert names_in(tmp_path) == []


def test_no_folder(portable, tmp_path):
    model, _ = load(portable("rows").path)
    with pytest.raises(OutputUnwritableError):
        save(model, tmp_path / "missing" / "m.onnx")
