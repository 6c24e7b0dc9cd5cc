"""`nvfp4-trt completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nvfp4_trt.cli.output import output_options, print_result

_PROGRAM = "nvfp4-trt"
_VARIABLE = "_NVFP4_TRT_COMPLETE"
"""What click looks for: the program's name in capitals."""
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@output_options
def completion(
    shell: str,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Print the script that completes commands, options and values in SHELL.

    In ~/.bashrc: eval "$(nvfp4-trt completion bash)"

    In ~/.zshrc, behind compinit: eval "$(nvfp4-trt completion zsh)"

    In ~/.config/fish/completions/nvfp4-trt.fish: nvfp4-trt completion fish | source

    Example: nvfp4-trt completion bash
    """
    from rich.markup import escape

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    root = click.get_current_context().find_root().command
    script = kind(root, {}, _PROGRAM, _VARIABLE).source()
    print_result({"shell": shell, "script": script}, as_json=as_json, people=lambda: [escape(script)])
