"""Building kernel packs: from small sources, good and bad, and from the package's own."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tiny_kernels import BROKEN, LOCAL_ARRAY, TWO_PARAMETERS, gemm_sources, good_sources, write_sources

from nvfp4_trt.errors import (
    DependencyMissingError,
    FileMissingError,
    InputSpecError,
    KernelCompileError,
    KernelNotFp4Error,
    KernelSpillsError,
    OutputUnwritableError,
    TargetUnsupportedError,
)
from nvfp4_trt.kernels import load_pack
from nvfp4_trt.kernels.build import build_pack
from nvfp4_trt.kernels.disassembly import inspect_cubin
from nvfp4_trt.kernels.sources import DTYPES, SMS, SOURCES, kernel_names, target_name
from nvfp4_trt.kernels.triton_compiler import SCRATCH

ROOT = Path(__file__).parents[2]


CRASH = """
import os
import sys

if sys.argv[0].endswith("worker.py"):
    os.write(2, b"assertion failed")
    os._exit(134)
"""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = good_sources(tmp_path_factory.mktemp("kernels") / "sources")
    return gemm_sources(folder)


@pytest.fixture
def out(tmp_path):
    """Return where the pack goes: what fails must leave nothing beside it."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "pack"


def refused(kind, said, out, **options):
    with pytest.raises(kind, match=said) as caught:
        build_pack(out, **options)
    assert list(out.parent.iterdir()) == []
    return caught.value


def test_a_pack(sources, out):
    seen = []
    built = build_pack(out, sms=[90], sources=sources, progress=lambda *now: seen.append(now))
    pack = load_pack(out)
    assert pack == built
    names = [f"gemm.{dtype}.32x32x32.sm_90.cubin" for dtype in DTYPES] + [f"sum.{d}.sm_90.cubin" for d in DTYPES]
    assert sorted(each.file for each in pack.manifest.kernels) == sorted(names)
    assert sorted(contents(out)) == sorted([*names, "manifest.json"])
    assert seen == [(done, 6) for done in range(1, 7)]
    record = pack.file("sum", "f32", 90)
    assert [entry.name for entry in record.entries] == ["add_all", "scale"]
    assert (record.entries[0].shared_bytes, record.entries[0].max_threads) == (512, 128)
    assert record.opcodes["BAR"] == 1
    assert (record.tile, record.params, record.fp4_opcode) == (None, ("args",), None)
    gemm = pack.file("gemm", "f16", 90, "32x32x32")
    assert gemm.params == ("a", "b", "out", *SCRATCH)
    assert (gemm.tile.block_m, gemm.tile.warps, gemm.entries[0].max_threads) == (32, 4, 128)
    assert set(pack.manifest.gemm_tiles) == {"sm_90"}
    assert pack.manifest.sources["sum.cu"] == hashlib.sha256((sources / "sum.cu").read_bytes()).hexdigest()
    assert set(pack.manifest.compilers) == {"cuobjdump", "nvdisasm", "nvrtc", "triton"}
    assert all(hashlib.sha256(pack.read(each)).hexdigest() == each.sha256 for each in pack.manifest.kernels)


def test_the_same_bytes_again_whatever_the_surroundings(sources, out, tmp_path, monkeypatch):
    build_pack(out, sms=[90], dtypes=["bf16"], sources=sources)
    elsewhere = tmp_path / "another place" / "sources"
    shutil.copytree(sources, elsewhere)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {"HOME": str(home), "TRITON_INTERPRET": "1", "TRITON_DEFAULT_FP_FUSION": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    again = tmp_path / "again"
    build_pack(again, sms=[90], dtypes=["bf16"], sources=elsewhere)
    assert contents(out) == contents(again)
    assert list(home.iterdir()) == []
    for name, data in contents(again).items():
        assert str(tmp_path).encode() not in data, name


def test_only_what_was_asked_for(sources, out):
    pack = build_pack(out, sms=[120, 90, 90], kernels=["sum"], dtypes=["f16"], sources=sources)
    assert [each.file for each in pack.manifest.kernels] == ["sum.f16.sm_120a.cubin", "sum.f16.sm_90.cubin"]
    assert pack.manifest.gemm_tiles == {}
    assert "triton" not in pack.manifest.compilers


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"sms": [90, 89]}, TargetUnsupportedError, "no kernels for sm_89"),
        ({"kernels": ["sun"]}, InputSpecError, "no kernel 'sun'"),
        ({"dtypes": ["float16"]}, InputSpecError, "no dtype 'float16'"),
    ],
)
def test_what_there_is_not(sources, out, options, kind, said):
    assert refused(kind, said, out, sources=sources, **options).hint.startswith("choose from ")


@pytest.mark.parametrize(
    ("name", "text", "kind", "said"),
    [
        ("broken", BROKEN, KernelCompileError, "no_such_name"),
        ("gather", LOCAL_ARRAY, KernelSpillsError, r"gather\.f16\.sm_120a\.cubin: gather keeps 256 bytes"),
        ("fill", TWO_PARAMETERS, KernelCompileError, "fill takes 2 parameters, and 1 are expected"),
    ],
)
def test_a_bad_kernel(tmp_path, out, name, text, kind, said):
    folder = write_sources(tmp_path / "sources", **{f"{name}_cu": text})
    refused(kind, said, out, sms=[120], dtypes=["f16"], sources=folder)


def test_a_gemm_that_is_not_fp4(sources, out):
    refused(
        KernelNotFp4Error, "no FP4 tensor-core", out, sms=[120], kernels=["gemm"], dtypes=["f16"], sources=sources
    )


def test_a_gemm_that_does_not_compile(tmp_path, out):
    folder = gemm_sources(tmp_path / "sources")
    text = (folder / "gemm.py").read_text().replace("tl.dot(x, w)", "tl.dot(x, missing)")
    (folder / "gemm.py").write_text(text)
    said = r"(?s)gemm\.py with the tile 32x32x32, b?f\d+ out, does not compile for sm_90.*missing is not defined"
    refused(KernelCompileError, said, out, sms=[90], sources=folder)


def test_tables_that_cannot_be_used(tmp_path, out):
    folder = gemm_sources(tmp_path / "sources", tile="64x64x64")
    refused(KernelCompileError, "names the tile 64x64x64; there are 32x32x32", out, sms=[90], sources=folder)
    refused(KernelCompileError, "KeyError: 'sm_100'", out, sms=[100], sources=folder)
    (folder / "gemm_tiles.json").unlink()
    refused(KernelCompileError, r"gemm_tiles\.json cannot be used: FileNotFoundError", out, sources=folder)


def test_no_sources(tmp_path, out):
    refused(FileMissingError, "sources are not in", out, sources=tmp_path)


def test_a_compiler_that_is_not_there(sources, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # what Python keeps for a module that cannot be imported
    error = refused(DependencyMissingError, "triton, which compiles the GEMM", out, sources=sources)
    assert error.hint == "pip install 'nvfp4-trt[kernels]'"


def test_a_compiler_that_crashes(tmp_path, out):
    """The process that compiles ends without an answer, as one does whose compiler aborts."""
    folder = gemm_sources(tmp_path / "sources")
    source = folder / "gemm.py"
    source.write_text(source.read_text() + CRASH)
    said = r"(?s)the process that compiles gemm\.\S+\.cubin died.*assertion"
    refused(KernelCompileError, said, out, sms=[90], sources=folder)


def small(sources):
    return {"sms": [90], "kernels": ["sum"], "dtypes": ["f16"], "sources": sources}


def test_a_pack_is_replaced_only_when_asked(sources, out):
    build_pack(out, **small(sources) | {"dtypes": ["f32"]})
    before = contents(out)
    with pytest.raises(OutputUnwritableError, match="there is a kernel pack in") as caught:
        build_pack(out, **small(sources))
    assert "--force" in caught.value.hint
    assert contents(out) == before
    build_pack(out, **small(sources), force=True)
    assert sorted(contents(out)) == ["manifest.json", "sum.f16.sm_90.cubin"]
    assert [each.name for each in out.parent.iterdir()] == ["pack"]


def test_a_failing_build_leaves_the_old_pack(sources, out, tmp_path):
    build_pack(out, **small(sources))
    before = contents(out)
    broken = write_sources(tmp_path / "broken", sum_cu=BROKEN)
    with pytest.raises(KernelCompileError):
        build_pack(out, **small(broken), force=True)
    assert contents(out) == before
    assert [each.name for each in out.parent.iterdir()] == ["pack"]


def test_other_folders_are_never_replaced(sources, out):
    out.mkdir()
    (out / "letter.txt").write_text("dear reader")
    with pytest.raises(OutputUnwritableError, match=r"holds letter\.txt: it is not a kernel pack"):
        build_pack(out, **small(sources), force=True)
    assert list(contents(out)) == ["letter.txt"]


def test_places_that_take_no_folder(sources, out):
    out.write_text("a file")
    with pytest.raises(OutputUnwritableError, match="is a file"):
        build_pack(out, **small(sources))
    with pytest.raises(OutputUnwritableError, match="does not exist"):
        build_pack(out.parent / "no" / "pack", **small(sources))
    assert out.read_text() == "a file"


def test_an_empty_folder_is_filled(sources, out):
    out.mkdir()
    build_pack(out, **small(sources))
    assert len(contents(out)) == 2


@pytest.mark.long
def test_every_architecture_and_every_dtype(tmp_path):
    """Each architecture in one dtype, one in all: held to their disassembly; what is in both is made twice."""
    pack = build_pack(tmp_path / "pack", dtypes=["bf16"])
    again = build_pack(tmp_path / "again", sms=[120])
    assert {each.kernel for each in pack.manifest.kernels} == set(kernel_names(SOURCES))
    assert {each.sm for each in pack.manifest.kernels} == set(SMS)
    assert {each.dtype for each in again.manifest.kernels} == set(DTYPES)
    for built, each in [(made, each) for made in (pack, again) for each in made.manifest.kernels]:
        assert each.file.endswith(f".{target_name(each.sm)}.cubin")
        found = inspect_cubin(built.root / each.file)
        opcodes = {name.split(".")[0] for entry in found.values() for name in entry.opcodes}
        assert set(each.opcodes) == opcodes
        if each.sm >= 100:
            assert all(entry.local_bytes == 0 for entry in each.entries), each.file
            assert not opcodes & {"LDL", "STL"}, each.file
            assert (each.fp4_opcode is not None) == (each.kernel == "gemm"), each.file
    twice = [each for each in again.manifest.kernels if each.dtype == "bf16"]
    assert twice
    for each in twice:
        assert again.read(each) == pack.read(pack.file(each.kernel, each.dtype, 120, each.tile and each.tile.name))


def test_a_wheel_has_the_sources(tmp_path):
    checkout, wheels = tmp_path / "checkout", tmp_path / "wheels"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("nvfp4_trt", "plugins/kernels"):
        shutil.copytree(ROOT / folder, checkout / folder, symlinks=True, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout / file)
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", wheels, checkout], check=True, capture_output=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(*wheels.iterdir()) as wheel:
        wheel.extractall(installed)
    shutil.rmtree(checkout)
    code = (
        "from nvfp4_trt.kernels.sources import SOURCES, hash_sources;"
        "print(SOURCES, SOURCES.is_symlink()); print(hash_sources(SOURCES))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    where, hashes = done.stdout.splitlines()
    assert where == f"{installed / 'nvfp4_trt' / 'kernels' / 'sources'} False"
    here = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / "plugins" / "kernels").iterdir()
        if path.suffix in {".cu", ".cuh", ".py", ".json"}
    }
    assert len(here) > 5
    assert hashes == str(dict(sorted(here.items())))
