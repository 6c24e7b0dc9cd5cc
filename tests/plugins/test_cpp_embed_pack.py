"""What embed_pack.py puts into the C++ plugin is the pack, and nothing that is not a pack goes in."""

import json

import cpp_rules
import pytest

TILE = cpp_rules.tile(16, 128, 256)
TABLES = {
    f"sm_{sm}": {
        "source": "made up for this test",
        "rows": [{"max_m": None, "max_n": None, "max_k": None, "tile": TILE.name, "split_k": sm - 89}],
    }
    for sm in (90, 120)
}


@pytest.fixture
def pack(tmp_path):
    cpp_rules.write_pack(tmp_path / "pack", TABLES, [TILE], (90, 120))
    return tmp_path / "pack"


def fnv(data):
    value = 14695981039346656037
    for byte in data:
        value = ((value ^ byte) * 1099511628211) % 2**64
    return value


def listing(pack, out, *options):
    done = cpp_rules.embed(pack, out, *options)
    assert (done.returncode, done.stderr) == (0, "")
    program = cpp_rules.compile_rules(out, out / "launch_rules")
    return cpp_rules.ask(program, ["pack", "gemm 90 f16 1 8 32", "gemm 120 f16 1 8 8192"])


def test_every_cubin_is_embedded_byte_by_byte(pack, tmp_path):
    found, hopper, blackwell = listing(pack, tmp_path / "out")
    manifest = json.loads((pack / "manifest.json").read_text())
    wanted = []
    for kernel in sorted(manifest["kernels"], key=lambda each: each["file"]):
        data = (pack / kernel["file"]).read_bytes()
        wanted.append(
            {
                **{key: kernel[key] for key in ("file", "kernel", "dtype", "sm")},
                "bytes": len(data),
                "fnv": fnv(data),
                "aligned": True,
                "tile": TILE.name if kernel["tile"] else "",
                "entries": [entry["name"] for entry in kernel["entries"]],
            }
        )
    assert found == wanted
    assert (hopper["split_k"], blackwell["split_k"]) == (1, 31)


def test_one_architecture(pack, tmp_path):
    found, hopper, blackwell = listing(pack, tmp_path / "out", "--sm", "120")
    assert {each["sm"] for each in found} == {120}
    assert len(found) == 6
    assert "no GEMM tile for sm_90" in hopper["error"]
    assert blackwell["tile"] == TILE.name


def test_a_pack_of_nothing_still_compiles(tmp_path):
    cpp_rules.write_pack(tmp_path / "pack", {}, [], ())
    found, hopper, _ = listing(tmp_path / "pack", tmp_path / "out")
    assert found == []
    assert "no GEMM tile" in hopper["error"]


def sources(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_the_same_pack_gives_the_same_sources(pack, tmp_path):
    for out in ("first", "second"):
        assert cpp_rules.embed(pack, tmp_path / out).returncode == 0
    assert sources(tmp_path / "first") == sources(tmp_path / "second")


def test_another_cubin_gives_another_digest(pack, tmp_path):
    cpp_rules.embed(pack, tmp_path / "all")
    cpp_rules.embed(pack, tmp_path / "one", "--sm", "90")
    digests = [(tmp_path / out / "pack_table.cpp").read_text().rsplit('"', 2)[1] for out in ("all", "one")]
    assert digests[0] != digests[1]
    assert all(len(digest) == 64 for digest in digests)


def fails(pack, out, *options):
    done = cpp_rules.embed(pack, out, *options)
    assert done.returncode == 2
    assert list(out.iterdir()) == []
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_damaged_cubin(pack, tmp_path):
    (pack / "quantize.f16.sm_90.cubin").write_bytes(b"something else")
    assert "quantize.f16.sm_90.cubin is not the file" in fails(pack, tmp_path / "out")


def test_a_missing_cubin(pack, tmp_path):
    (pack / "quantize.f16.sm_90.cubin").unlink()
    assert "quantize.f16.sm_90.cubin" in fails(pack, tmp_path / "out")


def test_no_manifest(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "manifest.json" in fails(tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"kernels": None}, "NoneType"),
        ({"gemm_tiles": {"sm_90": {"rows": [{}]}}}, "'max_m' is missing"),
    ],
)
def test_a_manifest_that_is_none(pack, tmp_path, change, message):
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps(manifest | change))
    assert message in fails(pack, tmp_path / "out")


def test_a_manifest_that_is_not_json(pack, tmp_path):
    (pack / "manifest.json").write_text("{")
    assert "embed_pack" in fails(pack, tmp_path / "out")


def test_an_architecture_that_the_pack_lacks(pack, tmp_path):
    assert "no cubins for sm_100" in fails(pack, tmp_path / "out", "--sm", "90", "--sm", "100")
