"""The command line as a process of its own: what a shell, a script or a terminal sees."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

MODULE = [sys.executable, "-m", "nvfp4_trt.cli"]
NET = ("--model", "cli_models:Net", "--inputs", "x.npz")


def shell(assets, *arguments, command=MODULE):
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=assets, capture_output=True, text=True, timeout=120
    )


def script(text):
    return [sys.executable, "-c", text]


def test_a_result(assets):
    done = shell(assets, "recipes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["default"] == "w4a4-dynamic-token"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("inspect", "nowhere.onnx"), 2, "file-missing"),
        (("export", "text.pt", *NET, "-o", "{out}/a.onnx"), 2, "not-a-model"),
        (("build", "engine", "net.onnx", "-o", "{out}/e", "--target", "sm_89"), 2, "target-unsupported"),
        (("recipes", "--colour"), 2, "usage"),
    ],
)
def test_failures(assets, exported, out, arguments, status, code):
    done = shell(assets, *(argument.replace("{out}", str(out)) for argument in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    *stages, error, hint = done.stderr.splitlines()
    assert error.startswith(f"error[{code}]: ")
    assert hint.startswith("hint: ")
    assert all(re.search(r", \d:\d\d:\d\d$", line) for line in stages)  # on a machine that takes ten seconds
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


HELP = """
import sys
from nvfp4_trt.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    heavy = {"torch", "onnx", "onnx_ir", "numpy", "transformers", "tensorrt", "tensorrt_rtx", "polygraphy"}
    print(ended.code, sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "command", [(), ("export",), ("pack",), ("build", "engine"), ("inspect",), ("compare",), ("lower",)]
)
def test_help_imports_nothing_heavy(assets, command):
    done = shell(assets, *command, "--help", command=script(HELP))
    assert done.stderr == "0 []\n"
    assert done.stdout.startswith(f"Usage: {' '.join(['nvfp4-trt', *command])} [OPTIONS]")
    if len(command) != 0:
        assert "--json" in done.stdout


WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # what Python itself keeps for a module that cannot be imported
from nvfp4_trt.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("missing", "options", "said"),
    [
        ("tensorrt,tensorrt_rtx", (), "neither tensorrt nor tensorrt_rtx is installed"),
        ("tensorrt,tensorrt_rtx", ("--backend", "tensorrt_rtx"), "tensorrt_rtx is not installed"),
        ("tensorrt", ("--backend", "tensorrt"), "tensorrt is not installed"),
    ],
)
def test_no_backend(assets, exported, out, missing, options, said):
    arguments = ("build", "engine", "net.onnx", "-o", out / "e", *options, "--json")
    done = shell(assets, missing, *arguments, command=script(WITHOUT))
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["message"]) == (3, "backend-missing", said)
    assert "pip install" in error["hint"]
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from nvfp4_trt.cli import main
main(sys.argv[2:])
"""


BIG = ("--model", "cli_models:big", "--input", "x:float32:4x512")


@pytest.mark.parametrize(
    ("limit", "arguments"),
    [
        (8_000, ("export", "w.pt", *NET, "-o", "{out}/a.onnx")),
        (8_000, ("pack", "big.safetensors", "-o", "{out}/p.safetensors")),
        (100_000, ("export", "big.safetensors", *BIG, "-o", "{out}/b.onnx")),
        (150_000, ("export", "big.safetensors", *BIG, "-o", "{out}/b.onnx")),
        (8_000, ("lower", "net.onnx", "-o", "{out}/l.onnx")),
        (600_000, ("build", "engine", "net.onnx", "-o", "{out}/e")),
    ],
    ids=["export", "pack", "export, spilling", "export, writing", "lower", "build"],
)
def test_a_system_that_takes_no_more_bytes(assets, exported, out, limit, arguments):
    """The limit on the size of files makes real writes fail half way, as a full disk does."""
    given = [argument.replace("{out}", str(out)) for argument in arguments]
    done = shell(assets, limit, *given, "--json", command=script(FULL))
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (3, "disk-full"), error
    assert error["message"].startswith("no space left while")
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


def test_ctrl_c(assets, out):
    (assets / "started").unlink(missing_ok=True)
    command = [*MODULE, "export", "w.pt", "--model", "cli_models:slow", "--inputs", "x.npz", "-o", out / "a.onnx"]
    with subprocess.Popen(command, cwd=assets, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        while not (assets / "started").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        told, complained = child.communicate(timeout=30)
    assert child.returncode == 130
    assert (told, complained) == (
        "",
        "\nerror[interrupted]: stopped by the user\nhint: no output file was left\n",
    )
    assert list(out.iterdir()) == []


def test_a_reader_that_left(assets):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([*MODULE, "recipes"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
