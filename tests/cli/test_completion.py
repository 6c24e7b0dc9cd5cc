"""Shell completion, in the shells themselves: words are typed at a prompt, and Tab."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(nvfp4-trt completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(nvfp4-trt completion zsh)"'),
}
SHELLS = [shell for shell in (*START, "fish") if shutil.which(shell)]
TYPED = {
    "a command": ("nvfp4-trt sensi", "nvfp4-trt sensitivity "),
    "a choice": ("nvfp4-trt pack m -o p --rule compr", "--rule compressed-tensors "),
    "a code": ("nvfp4-trt explain fp4-l", "explain fp4-lost "),
    "a recipe": ("nvfp4-trt export m -o p --recipe w4a4-dynamic-", "--recipe w4a4-dynamic-token "),
    "a GPU": ("nvfp4-trt build engine m -o p --gpu rtx-", "--gpu rtx-pro-6000 "),
    "a file": ("nvfp4-trt inspect portable_f", "inspect portable_file.onnx "),
}


@pytest.fixture
def environment(tmp_path):
    """A folder with one file, and the command on the PATH."""
    program = tmp_path / "bin" / "nvfp4-trt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nvfp4_trt.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "portable_file.onnx").touch()
    kept = {key: os.environ[key] for key in ("PYTHONPATH", "LANG") if key in os.environ}
    home = {"HOME": str(tmp_path), "TERM": "dumb", "PS1": "$ ", "XDG_CONFIG_HOME": str(tmp_path)}
    return {**kept, **home, "PATH": f"{program.parent}:{os.environ['PATH']}"}


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, command, environment):
        self._end, other = pty.openpty()
        self._child = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, start_new_session=True, cwd=environment["HOME"],
            env=environment,
        )  # fmt: skip
        os.close(other)
        self.shown = ""

    def type(self, text):
        os.write(self._end, text.encode())

    def wait_for(self, text, patience=30.0):
        deadline = time.monotonic() + patience
        while text not in self.shown and time.monotonic() < deadline:
            if select.select([self._end], [], [], 0.1)[0]:
                self.shown += os.read(self._end, 65536).decode(errors="replace")
        assert text in self.shown, self.shown

    def close(self):
        self._child.kill()
        self._child.wait()
        os.close(self._end)


def test_bash_is_there():
    assert "bash" in SHELLS


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "fish"])
def test_completion_at_a_prompt(environment, shell):
    command, script = START[shell]
    terminal = Terminal(command, environment)
    try:
        terminal.type(f"{script}; echo rea''dy\n")
        terminal.wait_for("ready")
        for typed, completed in TYPED.values():
            terminal.type(f"\x15{typed}\t")
            terminal.wait_for(completed)
    finally:
        terminal.close()


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell == "fish"])
def test_completion_by_the_shells_own_question(environment, shell):
    """Fish answers what it would complete, without a prompt."""
    for typed, completed in TYPED.values():
        asked = f'nvfp4-trt completion fish | source; complete --do-complete "{typed}"'
        told = subprocess.run(
            [shell, "--no-config", "-c", asked], env=environment, cwd=environment["HOME"], capture_output=True,
            text=True, timeout=60, check=True,
        )  # fmt: skip
        wanted = completed.split()[-1]
        assert wanted in [line.split("\t")[0].split(",")[-1] for line in told.stdout.splitlines()], told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_as_json(run, shell):
    told = run("completion", shell, "--json").json
    assert told["shell"] == shell
    assert run("completion", shell).out.rstrip() == told["script"].rstrip()
    assert "_NVFP4_TRT_COMPLETE" in told["script"]


def test_another_shell(fails):
    fails(("completion", "tcsh"), status=2, code="usage", said="'tcsh' is not one of")
