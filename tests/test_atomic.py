import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nvfp4_trt.atomic import check_writable, output_file, output_folder, output_tree
from nvfp4_trt.errors import DiskFullError, OutputUnwritableError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "out.bin"
    with output_file(path) as scratch:
        scratch.write_bytes(b"ab")
        assert scratch.parent.parent == tmp_path  # the same disk, so that a rename is enough
        assert not path.exists()
    assert path.read_bytes() == b"ab"
    assert names(tmp_path) == ["out.bin"]


def test_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with output_file(path) as scratch:
        scratch.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_any_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def fail():
        with output_folder(path) as scratch:
            (scratch / "out.bin").write_bytes(b"half")
            (scratch / "out.bin.data").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["out.bin"]
    assert path.read_bytes() == b"old"


def test_the_named_file_moves_last(tmp_path, monkeypatch):
    moved = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (moved.append(self.name), real(self, to))[1])
    with output_folder(tmp_path / "b.onnx") as scratch:
        for name in ("a.data", "b.onnx", "c.data"):
            (scratch / name).write_text(name)
    assert moved == ["a.data", "c.data", "b.onnx"]
    assert names(tmp_path) == ["a.data", "b.onnx", "c.data"]


def test_folders_that_cannot_take_it(tmp_path):
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "missing" / "x", "missing"),
        (tmp_path / "file" / "x", "is not a folder"),
        (tmp_path / "file" / "y" / "x", "does not exist"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(OutputUnwritableError, match=said) as caught:
            check_writable(path)
        assert caught.value.hint


def test_a_folder_that_refuses_even_root():
    """`/proc/self` says that it is writable, and is not."""
    with (
        pytest.raises(OutputUnwritableError, match="/proc/self"),
        output_file(Path("/proc/self/x.onnx")) as scratch,
    ):
        scratch.touch()


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OutputUnwritableError, match="File name too long"), output_file(tmp_path / ("x" * 300)):
        pass


FILL = """
import resource, signal, sys
from pathlib import Path
from nvfp4_trt.atomic import output_file
from nvfp4_trt.errors import DiskFullError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with output_file(Path(sys.argv[1])) as scratch:
        scratch.write_bytes(bytes(100_000))
except DiskFullError as error:
    print(error.message, error.code, error.exit_status)
"""


def test_a_limit_on_the_size_of_files_counts_as_full(tmp_path):
    """A real refusal by the system, in a process of its own: the limit cannot be taken back."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "big")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"no space left while writing {tmp_path / 'big'}")
    assert done.stdout.endswith("nothing was kept disk-full 3\n")
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_by_either_name(tmp_path, code):
    with pytest.raises(DiskFullError, match="MiB free"), output_file(tmp_path / "x"):
        raise OSError(code, os.strerror(code))


def test_a_device_that_is_always_full(tmp_path):
    with (
        pytest.raises(DiskFullError),
        output_file(tmp_path / "x"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_other_errors_of_the_system_pass_through(tmp_path):
    with pytest.raises(OSError, match="Input/output error"), output_file(tmp_path / "x"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_whole_folder_takes_the_place_of_another(tmp_path):
    place = tmp_path / "pack"
    for text in ("first", "second"):
        with output_tree(place) as scratch:
            (scratch / text).write_text(text)
            (scratch / "deeper").mkdir()
        assert names(place) == ["deeper", text]
        assert names(tmp_path) == ["pack"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    place = tmp_path / "pack"
    with output_tree(place) as scratch:
        (scratch / "first").touch()
    with pytest.raises(OSError, match="No such file"), output_tree(place) as scratch:
        (scratch / "second" / "third").touch()
    assert (names(place), names(tmp_path)) == (["first"], ["pack"])


def test_places_that_no_folder_can_take(tmp_path):
    (tmp_path / "file").touch()
    for place, said in ((tmp_path / "file", "is a file"), (tmp_path / "no" / "pack", "does not exist")):
        with pytest.raises(OutputUnwritableError, match=said), output_tree(place):
            pass
    for place in (Path(), tmp_path / ".."):
        with pytest.raises(OutputUnwritableError, match="cannot be made anew"), output_tree(place):
            pass
    assert names(tmp_path) == ["file"]
