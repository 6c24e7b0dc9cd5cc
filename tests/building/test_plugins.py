"""What a build with plugins is made from, up to the point where full TensorRT would take over."""

import json

import pytest
from written_packs import write_pack

import nvfp4_trt
from nvfp4_trt.building import BACKENDS, BackendName
from nvfp4_trt.building.plugins import choose_plugin, gemm_files, plugin_gemms
from nvfp4_trt.building.spec import PluginSpec
from nvfp4_trt.errors import (
    BackendMissingError,
    FileMissingError,
    KernelMissingError,
    PluginsUnsupportedError,
    WrongKindError,
)
from nvfp4_trt.kernels.cached import cache_folder, default_pack

FULL, RTX = BACKENDS[BackendName.TENSORRT], BACKENDS[BackendName.TENSORRT_RTX]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("packs") / "pack", sms=(90, 120))


def test_rtx_refuses_before_any_work(tmp_path):
    with pytest.raises(PluginsUnsupportedError):
        nvfp4_trt.build(tmp_path / "nowhere.onnx", tmp_path / "e", backend="tensorrt_rtx", plugin=True)
    with pytest.raises(PluginsUnsupportedError):
        nvfp4_trt.build(tmp_path / "nowhere.onnx", tmp_path / "e", backend="tensorrt_rtx", plugin_library="p.so")
    assert list(tmp_path.iterdir()) == []


def test_without_plugins_there_is_nothing_to_choose():
    assert choose_plugin(RTX, ["sm_120"], plugin=False, library=None) is None
    assert plugin_gemms(None, {}) is None


def test_a_named_pack(pack):
    spec = choose_plugin(FULL, ["sm_120"], pack.root, None)
    assert spec == PluginSpec(pack=pack.root.resolve(), sm=120)
    found = plugin_gemms(spec, {"fc/Nvfp4Gemm": ("fc",)})
    assert (found.nodes, found.opcode, found.reason) == ({"fc/Nvfp4Gemm": ("fc",)}, "OMMA", "")


def test_a_pack_without_the_instruction_proves_nothing(tmp_path):
    write_pack(tmp_path / "pack", sm=90, opcode=None)
    spec = choose_plugin(FULL, ["sm_90"], tmp_path / "pack", None)
    found = plugin_gemms(spec, {"fc/Nvfp4Gemm": ("fc",)})
    assert found.opcode == ""
    assert found.reason.startswith("gemm.f16.16x128x256.sm_90.cubin of the kernel pack holds no FP4 instruction")


def test_a_pack_for_another_gpu(pack):
    with pytest.raises(KernelMissingError, match="sm_100"):
        choose_plugin(FULL, ["sm_100"], pack.root, None)


def test_a_pack_that_is_not_there(tmp_path):
    with pytest.raises(FileMissingError, match="does not exist"):
        choose_plugin(FULL, ["sm_120"], tmp_path / "nowhere", None)


def test_a_machine_without_a_gpu(pack, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendMissingError, match="no GPU here"):
        choose_plugin(FULL, [], pack.root, None)


def library(folder, pack, sm, *, without=0):
    """Write what holds the pack's GEMM cubins between other bytes, as a library does."""
    path = folder / "libnvfp4_plugin.so"
    held = [pack.read(each) for each in gemm_files(pack, sm)]
    path.write_bytes(b"\x7fELF" + b"\0".join(held[without:]) + b"\0")
    return path


def test_a_library_built_from_the_pack(pack, tmp_path):
    path = library(tmp_path, pack, 120)
    assert choose_plugin(FULL, ["sm_120"], pack.root, path).library == path


def test_a_library_of_another_pack_has_nobody_to_vouch_for_it(pack, tmp_path):
    path = library(tmp_path, pack, 120, without=1)
    with pytest.raises(WrongKindError, match=r"does not hold gemm\.f16\.16x128x256\.sm_120\.cubin"):
        choose_plugin(FULL, ["sm_120"], pack.root, path)


def test_a_library_that_is_not_there(pack, tmp_path):
    with pytest.raises(FileMissingError, match=r"p\.so does not exist"):
        choose_plugin(FULL, ["sm_120"], pack.root, tmp_path / "p.so")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nvfp4-trt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "nvfp4-trt"


@pytest.mark.long
def test_the_default_pack_is_made_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = default_pack(90)
    assert made.sms == (90,)
    assert made.root.parent == tmp_path / "nvfp4-trt"
    written = {path.name: path.stat().st_mtime_ns for path in made.root.iterdir()}
    assert default_pack(90).root == made.root
    assert {path.name: path.stat().st_mtime_ns for path in made.root.iterdir()} == written
    assert json.loads((made.root / "manifest.json").read_text())["kernels"]
