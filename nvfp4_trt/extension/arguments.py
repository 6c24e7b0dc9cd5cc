"""The options of `polygraphy run`. Every run of Polygraphy imports this: nothing heavy is imported here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from polygraphy.tools.args import ModelArgs
from polygraphy.tools.args import util as args_util
from polygraphy.tools.args.base import BaseArgs, BaseRunnerArgs
from polygraphy.tools.script import make_invocable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polygraphy.tools.script import Script

_HOME = "nvfp4_trt.extension.runners"


def export_argument_groups() -> list[BaseArgs]:
    """Return the argument groups that Polygraphy adds to `run`."""
    return [ModelSourceArgs(), QuantizedArgs(), FloatArgs(), ReferenceArgs(), EngineArgs()]


class _Select(argparse.Action):
    """Chooses a runner, as Polygraphy's own flags do, and keeps the file that it is to run."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 (argparse's signature)
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Note both."""
        opt = self.option_strings[0].removeprefix("--")
        namespace.runners = [*(getattr(namespace, "runners", None) or []), opt]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), values])


class _FileRunnerArgs(BaseRunnerArgs):  # type: ignore[misc] # Polygraphy has no types
    """A runner whose flag takes the file that it runs; the flag may be given several times."""

    opt = ""
    title = ""
    metavar = "MODEL"
    what = ""

    def get_name_opt_impl(self) -> tuple[str, str]:
        """Name the runner and its flag."""
        return self.title, self.opt

    def add_flag(self, group: Any) -> None:
        """Give the flag a value: Polygraphy has just added it as one that takes none."""
        group.conflict_handler = "resolve"
        group.add_argument(
            f"--{self.opt}", metavar=self.metavar, action=_Select, dest=self._dest, default=None, help=self.what
        )

    def parse_impl(self, args: argparse.Namespace) -> None:
        """Keep the files, in the order in which they were given."""
        self.paths = list(args_util.get(args, self._dest) or [])

    @property
    def _dest(self) -> str:
        return self.opt.replace("-", "_")


class ModelSourceArgs(BaseArgs):  # type: ignore[misc]
    """NVFP4 PyTorch Inference: running PyTorch models, loaded and quantized as nvfp4-trt export does."""

    def add_parser_args_impl(self) -> None:
        """Add the flags of both runners, and their options."""
        self.arg_groups[QuantizedArgs].add_flag(self.group)
        self.arg_groups[FloatArgs].add_flag(self.group)
        add = self.group.add_argument
        add(
            "--nvfp4-recipe",
            metavar="RECIPE",
            help="A built-in recipe of nvfp4-trt or a .yaml file. Defaults to the one in the ONNX model, where "
            "nvfp4-trt exported it.",
        )
        add(
            "--nvfp4-factory",
            metavar="MODULE:FUNCTION",
            help="What makes the module of a state dict or safetensors file; imported from the current folder.",
        )
        add(
            "--nvfp4-inputs",
            metavar="FILE|MODULE:FUNCTION",
            help="Inputs for recipes that look at them (static scales, GPTQ, smoothing): those of the export.",
        )
        add("--nvfp4-calibration", metavar="FILE", help="Static scales, from `nvfp4-trt calibrate`.")
        add("--nvfp4-dtype", choices=["float32", "float16", "bfloat16"], help="Cast the model first.")
        add("--nvfp4-trust-pickle", action="store_true", default=None, help="Let the file run code.")

    def parse_impl(self, args: argparse.Namespace) -> None:
        """Keep what was given."""
        names = ("recipe", "factory", "inputs", "calibration", "dtype", "trust_pickle")
        self.given = {name: args_util.get(args, f"nvfp4_{name}") for name in names}


class _TorchArgs(_FileRunnerArgs):
    function = ""

    def add_to_script_impl(self, script: Script) -> None:
        """Add a runner of the next file."""
        script.add_import(imports=[self.function], frm=_HOME)
        model = self.arg_groups[ModelArgs].path
        given = self.arg_groups[ModelSourceArgs].given
        script.add_runner(make_invocable(self.function, self.paths.pop(0), model, **given))


class QuantizedArgs(_TorchArgs):
    """NVFP4 PyTorch: running a PyTorch model quantized to NVFP4; its flag is in ModelSourceArgs."""

    opt, title, function = "nvfp4-torch", "NVFP4 PyTorch", "quantized_runner"
    what = "Run inference using a PyTorch model that nvfp4-trt quantizes, or an NVFP4 checkpoint."


class FloatArgs(_TorchArgs):
    """Float PyTorch: running a PyTorch model as it is; its flag is in ModelSourceArgs."""

    opt, title, function = "nvfp4-float", "Float PyTorch", "float_runner"
    what = "Run inference using a PyTorch model as it is, which the quantized one can be compared with."


class ReferenceArgs(BaseRunnerArgs):  # type: ignore[misc]
    """NVFP4 ONNX Reference Inference: running any ONNX file of nvfp4-trt on the CPU."""

    def get_name_opt_impl(self) -> tuple[str, str]:
        """Name the runner and its flag."""
        return "NVFP4 ONNX reference", "nvfp4-reference"

    def get_extra_help_text_impl(self) -> str:
        """Say what it is for."""
        return "It runs what ONNX-Runtime cannot: bf16 files, and lowered files with FLOAT4E2M1 weights."

    def add_to_script_impl(self, script: Script) -> None:
        """Add a runner of the model."""
        script.add_import(imports=["reference_runner"], frm=_HOME)
        script.add_runner(make_invocable("reference_runner", self.arg_groups[ModelArgs].path))


class EngineArgs(_FileRunnerArgs):
    """NVFP4 Engine Inference: running an engine of TensorRT or TensorRT-RTX that is built already."""

    opt, title, metavar = "nvfp4-engine", "NVFP4 engine", "ENGINE"
    what = "Run inference using an engine, which may not run code of its own on the host."

    def add_parser_args_impl(self) -> None:
        """Add the flag and its options."""
        self.add_flag(self.group)
        self.group.add_argument(
            "--nvfp4-backend",
            choices=["tensorrt", "tensorrt_rtx"],
            help="What built the engine. Defaults to what the record beside it says, or to what is installed.",
        )
        self.group.add_argument(
            "--nvfp4-allow-host-code",
            action="store_true",
            default=None,
            help="Let the engine run code of its own on the host, which Polygraphy's --trt always does.",
        )

    def parse_impl(self, args: argparse.Namespace) -> None:
        """Keep what was given."""
        super().parse_impl(args)
        self.backend = args_util.get(args, "nvfp4_backend")
        self.allow_host_code = args_util.get(args, "nvfp4_allow_host_code")

    def add_to_script_impl(self, script: Script) -> None:
        """Add a runner of the next engine."""
        script.add_import(imports=["engine_runner"], frm=_HOME)
        made = make_invocable(
            "engine_runner", self.paths.pop(0), backend=self.backend, allow_host_code=self.allow_host_code
        )
        script.add_runner(made)
