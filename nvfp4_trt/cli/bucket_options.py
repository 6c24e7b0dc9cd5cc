"""`--buckets` and what goes with it: options of `build engine` that make a serving set instead of one engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nvfp4_trt.cli.output import print_result, working

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class BucketOptions(NamedTuple):
    """What was given of them."""

    buckets: tuple[str, ...]
    pads: tuple[str, ...]
    no_dynamic: bool
    share_weights: bool


def bucket_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add them."""
    for option in (
        click.option(
            "--share-weights",
            is_flag=True,
            help="With --buckets: one engine with a profile for each bucket, and the weights once.",
        ),
        click.option("--no-dynamic", is_flag=True, help="With --buckets: no engine for other shapes beside them."),
        click.option(
            "--pad",
            "pads",
            multiple=True,
            metavar="NAME=NUMBER",
            help="With --buckets: what an input is padded with. Default: 0.",
        ),
        click.option(
            "--buckets",
            multiple=True,
            metavar="AxB,AxB",
            help="Make OUTPUT a folder with an engine for each of these shapes and one for others, for example "
            "1x64,1x128,8x128 (extents in the order of the model's dynamic dimensions), or one by name: "
            "batch=1,sequence=64. May be repeated.",
        ),
    ):
        function = option(function)
    return function


def build_set(model: Path, output: Path, given: BucketOptions, *, as_json: bool, **options: Any) -> None:
    """Build a serving set and print what each bucket takes.

    Args:
        model: the portable file.
        output: the folder.
        given: the bucket options.
        as_json: whether to print JSON.
        options: those of `nvfp4_trt.build`, `lowered` among them, of which a set has none.

    Raises:
        click.UsageError: an option of one engine is given.
    """
    if options.pop("lowered") is not None:
        raise click.UsageError("--lowered is of one engine, and --buckets builds several")
    with working(f"building {output}") as say:
        from nvfp4_trt import api
        from nvfp4_trt.printing import serving_object, serving_summary

        made = api.build_buckets(
            model,
            output,
            buckets=given.buckets,
            pads=given.pads,
            with_dynamic=not given.no_dynamic,
            share_weights=given.share_weights,
            say=lambda name: say(f"building {output}: {name}"),
            **options,
        )
    print_result(
        serving_object(made.manifest, made.path),
        as_json=as_json,
        people=lambda: serving_summary(made.manifest, made.path),
    )


def check_alone(given: BucketOptions) -> None:
    """Refuse the others without `--buckets`.

    Raises:
        click.UsageError: one of them is given.
    """
    for option, value in (
        ("--pad", given.pads),
        ("--no-dynamic", given.no_dynamic),
        ("--share-weights", given.share_weights),
    ):
        if value:
            raise click.UsageError(f"{option} goes with --buckets")
