"""`nvfp4-trt build plugin`: its output, its errors, and what happens when it is stopped."""

import json
import signal
import subprocess
import sys
import time

import pytest

from nvfp4_trt.kernels import load_pack

SMALL = ("--sm", "90", "--kernel", "quantize", "--dtype", "bf16")
LOADED = """
import sys
from nvfp4_trt.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print(ended.code, sorted({"torch", "numpy", "triton", "cuda", "onnx"} & set(sys.modules)), file=sys.stderr)
"""


def test_a_pack_as_json_and_for_people(run, out):
    folder = out / "pack"
    told = run("build", "plugin", "-o", folder, *SMALL, "--json").json
    pack = load_pack(folder)
    (made,) = pack.manifest.kernels
    (cubin,) = told["cubins"]
    assert (told["pack"], told["sms"]) == (str(folder), [90])
    assert (cubin["file"], cubin["sha256"]) == ("quantize.bf16.sm_90.cubin", made.sha256)
    assert cubin["registers"] == max(entry.registers for entry in made.entries)
    assert told["bytes"] == len(pack.read(made))
    ran = run("build", "plugin", "-o", folder, *SMALL, "--force")
    assert ran.status == 0
    assert "quantize  sm_90" in ran.out
    assert ran.out.splitlines()[-1].startswith(f"wrote {folder}: 1 cubins, ")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--sm", "89"), "target-unsupported", "no kernels for sm_89"),
        (("--sm", "sm_90"), "usage", "'sm_90'"),
        (("--kernel", "quantise"), "option-syntax", "no kernel 'quantise'"),
        (("--dtype", "fp8"), "option-syntax", "no dtype 'fp8'"),
        (("-o", "{out}/no/pack"), "output-unwritable", "no of pack does not exist"),
        (("-o", ".", "--force"), "output-unwritable", "it is not a kernel pack"),
    ],
)
def test_failures(fails, options, code, said):
    fails(("build", "plugin", "-o", "{out}/pack", *SMALL, *options), status=2, code=code, said=said)


def test_help_loads_no_compiler():
    command = [sys.executable, "-c", LOADED, "build", "plugin", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == "0 []\n"
    assert done.stdout.startswith("Usage: nvfp4-trt build plugin [OPTIONS]")


def test_ctrl_c_leaves_nothing(out):
    command = [sys.executable, "-m", "nvfp4_trt.cli", "build", "plugin", "-o", out / "pack", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        while not list(out.iterdir()) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # into the first compilations
        child.send_signal(signal.SIGINT)
        told, _ = child.communicate(timeout=30)
    assert (child.returncode, json.loads(told)["error"]["code"]) == (130, "interrupted")
    assert list(out.iterdir()) == []
