"""The entry point: the group of commands, and how every failure ends."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.metadata import version

import click

from nvfp4_trt.cli.build import build
from nvfp4_trt.cli.compare import compare
from nvfp4_trt.cli.export import export
from nvfp4_trt.cli.inspect import inspect
from nvfp4_trt.cli.lower import lower
from nvfp4_trt.cli.output import print_error
from nvfp4_trt.cli.recipes import recipes
from nvfp4_trt.errors import ENVIRONMENT_LACKS, USER_MISTAKE, Nvfp4Error

_INTERRUPTED = 130
_INTERNAL = 70
_PIPE_CLOSED = 141


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("nvfp4-trt"), prog_name="nvfp4-trt")
def cli() -> None:
    """From a PyTorch model to a TensorRT engine whose GEMMs are FP4, audited at each step."""


for _command in (export, build, inspect, compare, lower, recipes):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    Statuses: 0 done; 1 a result below its threshold; 2 a mistake in what was asked; 3 the environment lacks
    something; 4 TensorRT failed; 70 a defect of this program; 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    as_json, debug = "--json" in given, "--debug" in given
    try:
        status = cli.main(given, prog_name="nvfp4-trt", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _end("interrupted", "stopped by the user", "no output file was left", _INTERRUPTED, as_json=as_json)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context else "nvfp4-trt --help"
        # Without a command, click's message is the whole help.
        nothing = isinstance(error, click.exceptions.NoArgsIsHelpError)
        message = "no command was given" if nothing else error.format_message()
        _end("usage", message, hint, USER_MISTAKE, as_json=as_json)
    except Nvfp4Error as error:
        if debug:
            raise
        hint = _with_whole_command(error.hint, given)
        _end(error.code, error.message, hint, error.exit_status, as_json=as_json)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)
    except MemoryError:
        _end(
            "out-of-memory",
            "not enough memory",
            "use a machine with more",
            ENVIRONMENT_LACKS,
            as_json=as_json,
        )
    except Exception as error:
        if debug:
            raise
        message = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        hint = "this is a defect: report it with what --debug prints"
        _end("internal", message, hint, _INTERNAL, as_json=as_json)
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _with_whole_command(hint: str, given: list[str]) -> str:
    """Complete the commands in a hint: the library knows the file and what to add, not the other options."""
    for argument in given:
        hint = hint.replace(f"nvfp4-trt export {argument} --", f"{shlex.join(['nvfp4-trt', *given])} --")
    return hint


def _end(code: str, message: str, hint: str, status: int, *, as_json: bool) -> None:
    print_error({"code": code, "message": message, "hint": hint}, as_json=as_json)
    sys.exit(status)
