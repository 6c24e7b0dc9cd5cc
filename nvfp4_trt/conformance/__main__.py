"""`python -m nvfp4_trt.conformance VECTORS MODULE:FUNCTION`: exit status 1 where an implementation differs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nvfp4_trt.conformance.check import check_dequantizer, check_quantizer
from nvfp4_trt.conformance.vectors import read_vectors
from nvfp4_trt.errors import FileMissingError, Nvfp4Error
from nvfp4_trt.loading.factories import current_directory_importable, find_callable


@click.command()
@click.argument("vectors", type=click.Path(path_type=Path))
@click.argument("function", metavar="MODULE:FUNCTION")
@click.option("--dequantize", is_flag=True, help="FUNCTION dequantizes; by default it quantizes.")
@click.option("--ulps", default=0, show_default=True, help="With --dequantize: how far a value may be off.")
@click.option("--skip", multiple=True, metavar="CASE", help="Leave a case out. Repeat for each.")
def main(vectors: Path, function: str, dequantize: bool, ulps: int, skip: tuple[str, ...]) -> None:
    """Check FUNCTION against VECTORS, a file or a folder of them.

    What FUNCTION is called with and returns is in docs/conformance.md.
    """
    try:
        files = sorted(vectors.glob("*.safetensors")) if vectors.is_dir() else [vectors]
        if not files or not all(file.is_file() for file in files):
            raise FileMissingError(f"there are no vectors in {vectors}", "give tests/vectors of the repository")
        wrong = False
        with current_directory_importable():
            called = find_callable(function, option="FUNCTION")
            for file in files:
                read = read_vectors(file)
                if dequantize:
                    found = check_dequantizer(called, read, ulps=ulps, skip=skip)
                else:
                    found = check_quantizer(called, read, skip=skip)
                differing = {mismatch.case for mismatch in found}
                total = sum(case.name not in skip for case in read.cases)
                click.echo(f"{read.rule}: {total - len(differing)} of {total} cases agree")
                for mismatch in found:
                    click.echo(f"  {mismatch}")
                wrong = wrong or bool(found)
    except Nvfp4Error as error:
        click.echo(f"error[{error.code}]: {error.message}\nhint: {error.hint}", err=True)
        sys.exit(error.exit_status)
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
