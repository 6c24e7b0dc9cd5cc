"""`nvfp4-trt build plugin -o FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from nvfp4_trt.cli.output import output_options, print_result, working


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("nvfp4_plugin"),
    show_default=True,
    help="The folder to make.",
)
@click.option(
    "--sm",
    "sms",
    multiple=True,
    type=int,
    metavar="SM",
    help="GPU architecture: 90, 100, 103, 120 or 121. Repeat for several. Default: all of them.",
)
@click.option("--kernel", "kernels", multiple=True, metavar="NAME", help="Only these kernels. Default: all.")
@click.option(
    "--dtype", "dtypes", multiple=True, metavar="DTYPE", help="Only f16, bf16 or f32. Default: all three."
)
@click.option("--force", is_flag=True, help="Replace a kernel pack that is there already.")
@output_options
def plugin(
    output: Path,
    sms: tuple[int, ...],
    kernels: tuple[str, ...],
    dtypes: tuple[str, ...],
    force: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 (read by `main`)
) -> None:
    """Compile the kernels of the TensorRT plugin into a kernel pack: cubins and a manifest.

    Needs no GPU. A Blackwell kernel that spills registers, or a GEMM without FP4 instructions, fails the build.

    Example: nvfp4-trt build plugin -o nvfp4_plugin/ --sm 120 --kernel quantize --dtype bf16
    """
    with working(f"compiling kernels into {output}") as say:
        from nvfp4_trt.kernels.build import build_pack
        from nvfp4_trt.printing import pack_object, pack_summary

        pack = build_pack(
            output,
            sms=sms,
            kernels=kernels,
            dtypes=dtypes,
            force=force,
            progress=lambda done, of: say(f"compiling kernels into {output}: {done} of {of}"),
        )
    print_result(pack_object(pack), as_json=as_json, people=lambda: pack_summary(pack))
