"""`build engine --buckets` and `inspect FOLDER`: what they print, and every bad input."""

import json

import pytest

BUILD = ("build", "engine", "net.onnx", "--backend", "tensorrt_rtx", "-o", "{out}/set")
BAD = [
    (("--buckets", "1x64"), "buckets-invalid", "1x64 has 2 extents, and the model 1 dynamic dimensions: batch"),
    (("--buckets", "1,8,1"), "buckets-invalid", "has 1 twice"),
    (("--buckets", "0"), "buckets-invalid", "0 has an extent"),
    (("--buckets", "one"), "buckets-invalid", "'one' is no list"),
    (("--buckets", "batch=1", "--buckets", "sequence=2"), "buckets-invalid", "no dynamic dimension 'sequence'"),
    (("--buckets", "1,8", "--pad", "y=0"), "buckets-invalid", "--pad y"),
    (("--buckets", "1,8", "--pad", "x"), "option-syntax", "--pad 'x'"),
    (("--buckets", "1,8", "--dim", "width=1:2:3"), "profile-invalid", "--dim width"),
    (("--buckets", "1,8", "--dim", "batch=1:2:3", "--no-dynamic"), "buckets-invalid", "--dim batch=1:2:3"),
    (("--buckets", "1,8", "--share-weights", "--plugin-library", "x.so"), "buckets-invalid", "builds no plugins"),
    (("--buckets", "1,8", "--lowered", "x.onnx"), "usage", "--lowered is of one engine"),
    (("--pad", "x=0"), "usage", "--pad goes with --buckets"),
    (("--no-dynamic",), "usage", "--no-dynamic goes with --buckets"),
    (("--share-weights",), "usage", "--share-weights goes with --buckets"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input(fails, exported, arguments, code, said):
    fails((*BUILD, *arguments), status=2, code=code, said=said)


def test_a_folder_of_something_else(run, exported, out):
    (out / "set").mkdir()
    (out / "set" / "mine.txt").write_text("x")
    arguments = [str(word).replace("{out}", str(out)) for word in BUILD]
    ran = run(*arguments, "--buckets", "1,8", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (2, "output-unwritable")
    assert [path.name for path in (out / "set").iterdir()] == ["mine.txt"]


@pytest.mark.long
def test_build_and_inspect(run, exported, out):
    arguments = [str(word).replace("{out}", str(out)) for word in BUILD]
    ran = run(*arguments, "--buckets", "1,8", "--buckets", "batch=4", "--share-weights", "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["kind"], told["gpu"], told["shared_weights"]) == ("serving-set", "rtx5090", True)
    assert [each["name"] for each in told["buckets"]] == ["1", "8", "4"]
    assert told["dynamic"]["ranges"] == {"batch": [1, 8, 8]}
    assert told["engines_bytes"] == (out / "set" / "engines" / "shared.engine").stat().st_size
    assert run("inspect", out / "set", "--json").json == told
    shown = run("inspect", out / "set").out
    lines = shown.splitlines()
    assert lines[1].split() == [
        *("batch", "engine", "profile", "kernels", "bytes", "moved", "us", "modelled"),
        *("engine", "bytes", "activation", "bytes"),
    ]
    assert [line.split()[0] for line in lines[2:6]] == ["1", "8", "4", "1..8"]
    assert "modelled on rtx5090, not measured" in shown
    assert "one engine, the weights once" in shown
    assert json.loads((out / "set" / "manifest.json").read_text())["format_version"] == 1


def test_inspect_a_folder_that_is_no_set(fails, assets):
    fails(("inspect", "."), status=2, code="not-a-model", said="is a folder")
