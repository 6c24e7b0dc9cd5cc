"""What is shown of work under way: stages with their times, `-v`, `-q`, `NO_COLOR`."""

import os
import pty
import re
import subprocess
import sys
import time
from itertools import count

import pytest

from nvfp4_trt.cli.progress import Progress, batch_progress
from nvfp4_trt.stages import listening, stage

NET = ("--model", "cli_models:Net", "--inputs", "x.npz")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]")


def test_stages_over_a_second_are_told_with_their_time(capsys):
    progress = Progress(shown=True, clock=count(step=0.4).__next__)
    with progress.running(), progress.stage("exporting m.pt"), listening(progress.stage):
        with stage("loading m.pt"):
            pass
        with stage("quantizing"):
            progress.say("quantizing: 3 batches")
            progress._clock()
            progress._clock()
    assert capsys.readouterr().err.splitlines() == ["quantizing: 1.2 s", "exporting m.pt: 2.8 s"]


def test_a_stage_that_failed_is_not_told_of(capsys):
    progress = Progress(shown=True, every_stage=True)
    with pytest.raises(ValueError, match="no"), progress.running(), progress.stage("loading"):
        raise ValueError("no")
    with progress.running(), progress.stage("again"):
        pass
    assert re.fullmatch(r"again: \d\.\d s\n", capsys.readouterr().err)


def test_nobody_has_to_listen():
    with stage("loading"):
        pass


def test_long_work_says_how_far_it_is_where_no_line_can_change(capfd):
    progress = Progress(shown=True, heartbeat=0.01)
    told = ""
    with progress.running(), progress.stage("calibrating m.pt"):
        batch_progress("calibrating m.pt", progress.say)(1)
        deadline = time.monotonic() + 30
        while "1 batch" not in told and time.monotonic() < deadline:
            time.sleep(0.01)
            told += capfd.readouterr().err
    assert re.search(r"^calibrating m.pt: 1 batch, 0:00:0\d$", told, re.MULTILINE)


def test_nothing_is_shown_where_it_should_not_be(capfd):
    progress = Progress(shown=False, every_stage=True, heartbeat=0.0)
    with progress.running(), progress.stage("exporting"):
        progress.say("exporting: half of it")
    assert capfd.readouterr() == ("", "")


def test_verbose_shows_every_stage(run, out):
    ran = run("export", "w.pt", *NET, "-o", out / "a.onnx", "-v", "--json")
    assert ran.status == 0
    assert ran.json["onnx"] == str(out / "a.onnx")
    told = [line for line in ran.err.splitlines() if re.search(r": \d+\.\d s$", line)]
    assert [line.rsplit(":", 1)[0] for line in told] == [
        "loading w.pt",
        "quantizing",
        "writing a.onnx",
        "exporting w.pt",
    ]


LOUD = """
import logging, sys
from nvfp4_trt.cli import main
from nvfp4_trt import printing

def inspect_file(path):
    print("printed by a library")
    print("complained by a library", file=sys.stderr)
    logging.getLogger("library").warning("logged by a library")
    raise ValueError("the end")

printing.inspect_file = inspect_file
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ((), ["printed by a library", "complained by a library"]),
        (("-v",), ["printed by a library", "complained by a library", "library: logged by a library"]),
        (("-q",), []),
    ],
    ids=["plain", "verbose", "quiet"],
)
def test_what_libraries_say(tmp_path, flags, shown):
    done = subprocess.run(
        [sys.executable, "-c", LOUD, "inspect", "a.onnx", *flags], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == ""
    *told, error, hint = done.stderr.splitlines()
    assert told == shown
    assert error == "error[internal]: ValueError: the end"
    assert hint.startswith("hint: ")


def test_quiet_shows_the_result(run, exported):
    ran = run("inspect", "net.onnx", "-q")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == run("inspect", "net.onnx").out


def test_both_at_once(fails):
    fails(("recipes", "-v", "-q"), status=2, code="usage", said="--verbose and --quiet exclude each other")


def _at_a_terminal(arguments, cwd, **variables):
    """Run a command whose standard output and error are a terminal; return what it showed."""
    end, other = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    child = subprocess.Popen(
        [sys.executable, "-m", "nvfp4_trt.cli", *arguments], stdin=other, stdout=other, stderr=other, cwd=cwd,
        env={**environment, "TERM": "xterm-256color", **variables},
    )  # fmt: skip
    os.close(other)
    shown = b""
    while True:
        try:
            shown += os.read(end, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
    os.close(end)
    assert child.wait(timeout=60) == 0
    return shown.decode()


def test_a_terminal_shows_the_stage_and_obeys_no_color(assets, exported):
    shown = _at_a_terminal(["inspect", "net.onnx"], assets)
    assert "reading net.onnx" in shown
    assert COLOUR.search(shown)
    plain = _at_a_terminal(["inspect", "net.onnx"], assets, NO_COLOR="1")
    assert "reading net.onnx" in plain
    assert not COLOUR.search(plain)
    assert "reading net.onnx" not in _at_a_terminal(["inspect", "net.onnx", "-q"], assets)
