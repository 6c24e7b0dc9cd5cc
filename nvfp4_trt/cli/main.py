"""The entry point: the group of commands, and how every failure ends."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
import sys
import traceback
from importlib.metadata import version
from typing import NoReturn

import click

from nvfp4_trt.cli.bench import bench
from nvfp4_trt.cli.build import build
from nvfp4_trt.cli.calibrate import calibrate
from nvfp4_trt.cli.check import check
from nvfp4_trt.cli.compare import compare
from nvfp4_trt.cli.completion import completion
from nvfp4_trt.cli.convert import convert
from nvfp4_trt.cli.doctor import doctor
from nvfp4_trt.cli.explain import explain
from nvfp4_trt.cli.export import export
from nvfp4_trt.cli.inspect import inspect
from nvfp4_trt.cli.lower import lower
from nvfp4_trt.cli.output import print_error
from nvfp4_trt.cli.pack import pack
from nvfp4_trt.cli.plan import plan
from nvfp4_trt.cli.prove import prove
from nvfp4_trt.cli.recipes import recipes
from nvfp4_trt.cli.report import report
from nvfp4_trt.cli.run import run as run_command
from nvfp4_trt.cli.sensitivity import sensitivity
from nvfp4_trt.errors import ENVIRONMENT_LACKS, USER_MISTAKE, Nvfp4Error

_INTERRUPTED = 130
_INTERNAL = 70
_ALLOCATIONS = 50_000
"""Objects between two searches for cycles, instead of 700: imports and traced graphs make objects that stay. Of an
export's CPU time a tenth goes, and a fifth with 48 layers; its peak memory stays as it is."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nvfp4-trt"), prog_name="nvfp4-trt")
def cli() -> None:
    """From a PyTorch model to a TensorRT engine whose GEMMs are FP4, audited at each step."""


for _command in (
    check,
    plan,
    export,
    calibrate,
    pack,
    convert,
    build,
    inspect,
    compare,
    run_command,
    bench,
    prove,
    sensitivity,
    lower,
    report,
    recipes,
    doctor,
    explain,
    completion,
):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status.

    Statuses: 0 done; 1 a result below its threshold; 2 a mistake in what was asked; 3 the environment lacks
    something; 4 TensorRT failed; 70 a defect of this program; 130 interrupted; 141 nobody reads the output.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        status = cli.main(given, prog_name="nvfp4-trt", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (every failure ends here, told in one way)
        if "--debug" in given:
            traceback.print_exception(error)
        told, status = _explained(error, given)
        if not getattr(error, "told_elsewhere", False):
            print_error(told, as_json="--json" in given)
        sys.exit(status)
    sys.exit(status if isinstance(status, int) else 0)


def run() -> NoReturn:
    """Be the process: run the command line, and end without taking libraries down one by one.

    With torch and a model in memory, the interpreter's own way out takes more than a second, to free what the
    system frees at once. Every output file is closed and in its place by then.
    """
    gc.set_threshold(_ALLOCATIONS)
    try:
        main()
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else int(done.code is not None)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _explained(error: BaseException, given: list[str]) -> tuple[dict[str, str], int]:
    """Return the `error` object of a failure, and the exit status."""
    if isinstance(error, Nvfp4Error):
        return error.as_dict() | {"hint": _with_whole_command(error.hint, given)}, error.exit_status
    if isinstance(error, (click.exceptions.Abort, KeyboardInterrupt)):
        return _told("interrupted", "stopped by the user", "no output file was left"), _INTERRUPTED
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else "nvfp4-trt --help"
        # Without a command, click's message is the whole help.
        nothing = isinstance(error, click.exceptions.NoArgsIsHelpError)
        return _told("usage", "no command was given" if nothing else error.format_message(), hint), USER_MISTAKE
    if isinstance(error, MemoryError):
        return _told("out-of-memory", "not enough memory", "use a machine with more"), ENVIRONMENT_LACKS
    message = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
    return _told("internal", message, "this is a defect: report it with what --debug prints"), _INTERNAL


def _with_whole_command(hint: str, given: list[str]) -> str:
    """Complete the commands in a hint: the library knows the file and what to add, not the other options."""
    for argument in given:
        hint = hint.replace(f"nvfp4-trt export {argument} --", f"{shlex.join(['nvfp4-trt', *given])} --")
    return hint


def _told(code: str, message: str, hint: str) -> dict[str, str]:
    return {"code": code, "message": message, "hint": hint}
