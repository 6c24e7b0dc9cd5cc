"""Rewrites of a float module, of unchanged meaning, after which more of its layers can be FP4: `export --fix`."""

from nvfp4_trt.fixing.apply import FIXES, Fixed, fix_module

__all__ = ["FIXES", "Fixed", "fix_module"]
