"""`polygraphy run` with this package's runners: the entry point of the group `polygraphy.run.plugins`."""

from nvfp4_trt.extension.arguments import export_argument_groups

__all__ = ["export_argument_groups"]
