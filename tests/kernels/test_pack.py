"""Reading a kernel pack: what is in it, and every way in which one can be broken."""

import hashlib
import subprocess
import sys

import pytest
from edited import edit_json

from nvfp4_trt.errors import FileMissingError, FileTruncatedError, KernelMissingError, PackInvalidError
from nvfp4_trt.kernels import Entry, GemmTile, KernelFile, Manifest, load_pack

TILE = GemmTile(block_m=128, block_n=128, block_k=256, warps=8, stages=3, shared_bytes=139264)
BYTES = {
    "quantize.bf16.sm_120a.cubin": b"first",
    "gemm.f16.128x128x256.sm_120a.cubin": b"second",
}


def record(name, **over):
    kernel, dtype = name.split(".")[:2]
    return KernelFile(
        file=name,
        sha256=hashlib.sha256(BYTES[name]).hexdigest(),
        kernel=kernel,
        dtype=dtype,
        sm=120,
        entries=(Entry(name="entry", registers=40, shared_bytes=0, local_bytes=0, max_threads=256),),
        fp4_opcode="OMMA" if kernel == "gemm" else None,
        opcodes={"LDG": 2},
        tile=TILE if kernel == "gemm" else None,
        params=("args",),
    ).model_copy(update=over)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pack"
    folder.mkdir()
    for name, data in BYTES.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        package_version="1", compilers={}, sources={}, kernels=tuple(map(record, BYTES)), gemm_tiles={}
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def test_cubins_are_found_and_read(folder):
    pack = load_pack(str(folder))
    assert pack.sms == (120,)
    quantize = pack.file("quantize", "bf16", 120)
    gemm = pack.file("gemm", "f16", 120, "128x128x256")
    assert (pack.read(quantize), pack.read(gemm)) == (b"first", b"second")
    assert gemm.tile == TILE
    assert gemm.entries[0].registers == 40


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("quantize", "bf16", 90), "no kernels for sm_90: it was built for sm_120"),
        (("quantize", "bf16", 121), "no kernels for sm_121"),
        (("quantize", "f16", 120), r"no quantize f16 for sm_120; it has quantize\.bf16\.sm_120a\.cubin"),
        (("gemm", "f16", 120, "16x128x256"), r"no gemm f16 16x128x256 .* it has gemm\.f16\.128x128x256"),
        (("gemm", "f16", 120), "no gemm f16 for sm_120"),
        (("norm_quantize", "f16", 120), "it has no norm_quantize at all"),
    ],
)
def test_a_cubin_that_is_not_there(folder, asked, said):
    with pytest.raises(KernelMissingError, match=said) as caught:
        load_pack(folder).file(*asked)
    assert caught.value.hint.startswith(("nvfp4-trt build plugin", "make it again: nvfp4-trt build plugin"))


def test_a_changed_cubin(folder):
    pack = load_pack(folder)
    (folder / "quantize.bf16.sm_120a.cubin").write_bytes(b"firsu")
    with pytest.raises(FileTruncatedError, match=r"quantize\.bf16\.sm_120a\.cubin has the SHA-256"):
        pack.read(pack.file("quantize", "bf16", 120))
    assert pack.read(pack.file("gemm", "f16", 120, "128x128x256")) == b"second"


def test_a_deleted_cubin(folder):
    (folder / "quantize.bf16.sm_120a.cubin").unlink()
    pack = load_pack(folder)
    with pytest.raises(FileMissingError, match=r"which manifest\.json names, does not exist"):
        pack.read(pack.file("quantize", "bf16", 120))


def test_no_pack(folder):
    with pytest.raises(FileMissingError, match="does not exist"):
        load_pack(folder / "nowhere")
    (folder / "manifest.json").unlink()
    with pytest.raises(FileMissingError, match=r"holds no manifest\.json"):
        load_pack(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[1]", b"{}", b'{"format_version": 2}'])
def test_a_manifest_that_is_none(folder, text):
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(PackInvalidError, match=r"manifest\.json"):
        load_pack(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format_version=7), "format version 7, and this package reads 1"),
        (lambda data: data["kernels"][0].pop("sha256"), r"kernels\.0\.sha256: Field required"),
        (lambda data: data.update(extra=1), "extra: Extra inputs"),
        (lambda data: data["kernels"][1].update(file="../../etc/passwd"), r"kernels\.1\.file"),
        (lambda data: data["kernels"][1].update(file="/etc/passwd"), r"kernels\.1\.file"),
        (lambda data: data["kernels"][1]["tile"].update(warps="many"), r"kernels\.1\.tile\.warps"),
    ],
)
def test_a_manifest_with_a_mistake(folder, change, said):
    edit_json(folder / "manifest.json", change)
    with pytest.raises(PackInvalidError, match=said):
        load_pack(folder)


def test_reading_a_pack_loads_no_compiler_and_no_torch(folder):
    code = (
        "import sys; from nvfp4_trt.kernels import load_pack; pack = load_pack(sys.argv[1]);"
        "print({'torch', 'triton', 'cuda', 'onnx'} & set(sys.modules), len(pack.manifest.kernels))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "set() 2\n"
