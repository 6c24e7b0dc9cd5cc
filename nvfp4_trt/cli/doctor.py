"""`nvfp4-trt doctor`."""

from __future__ import annotations

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@output_options
def doctor(
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Tell what this machine has, and which engines it can build and run.

    Each thing that is missing comes with the line that installs it.

    Example: nvfp4-trt doctor --json
    """
    with working("looking at this machine"):
        from nvfp4_trt.doctor import diagnose
        from nvfp4_trt.printing.doctor import doctor_object, doctor_summary

        found = diagnose()
    print_result(doctor_object(found), as_json=as_json, people=lambda: doctor_summary(found))
