"""Every error a user can meet: one class each, with a stable code, an exit status and a way out.

Exit statuses: 1 a result below its threshold, 2 a mistake in what was asked, 3 an environment that
lacks something, 4 a failure inside TensorRT. The codes are part of the public interface: scripts match
on them (`--json` prints them under `error.code`), so a code never changes its meaning.
"""

from __future__ import annotations

from typing import ClassVar

RESULT_BELOW_THRESHOLD = 1
USER_MISTAKE = 2
ENVIRONMENT_LACKS = 3
TENSORRT_FAILED = 4


class Nvfp4Error(Exception):
    """What went wrong, and what to do about it.

    Args:
        message: what was wrong, naming the file, layer, tensor or option.
        hint: what to do next, as an instruction or a command that would work.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = USER_MISTAKE
    told_elsewhere: bool = False
    """Whether another process of the same run tells of it, so that this one should not."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """Return the `error` object of the `--json` output."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


# --- files ------------------------------------------------------------------------------------------


class FileMissingError(Nvfp4Error):
    """A path that was named does not exist."""

    code = "file-missing"


class FileTruncatedError(Nvfp4Error):
    """A file starts like a model and ends too early, or its checksum does not hold."""

    code = "file-truncated"


class NotAModelError(Nvfp4Error):
    """A file is none of the kinds that can be read."""

    code = "not-a-model"


class WrongKindError(Nvfp4Error):
    """A file is a readable kind, but not one that this command or this set of options takes."""

    code = "wrong-kind"


class UntrustedCodeError(Nvfp4Error):
    """Loading the file would run code that the file carries, and `--trust-pickle` was not given."""

    code = "untrusted-code"


class OutputUnwritableError(Nvfp4Error):
    """The folder of an output is missing, or cannot be written to."""

    code = "output-unwritable"


class DiskFullError(Nvfp4Error):
    """The disk filled up while an output was written; nothing of it was kept."""

    code = "disk-full"
    exit_status = ENVIRONMENT_LACKS


# --- models and inputs ------------------------------------------------------------------------------


class FactoryImportError(Nvfp4Error):
    """`package.module:function` cannot be imported, or calling it raised."""

    code = "factory-import"


class FactoryResultError(Nvfp4Error):
    """A factory returned something other than what its option asks for."""

    code = "factory-result"


class StateDictMismatchError(Nvfp4Error):
    """A state dict's names or shapes are not those of the factory's module."""

    code = "state-dict-mismatch"


class InputSpecError(Nvfp4Error):
    """An option's value does not follow its syntax."""

    code = "option-syntax"


class InputsMissingError(Nvfp4Error):
    """Example inputs are needed, and none were given."""

    code = "inputs-missing"


class InputsMismatchError(Nvfp4Error):
    """Example inputs do not fit the model: a name, a shape or a dtype."""

    code = "inputs-mismatch"


class NonfiniteWeightError(Nvfp4Error):
    """A weight to be quantized holds NaN or infinity."""

    code = "nonfinite-weight"


class NonfiniteCalibrationError(Nvfp4Error):
    """Calibration saw NaN or infinity entering a layer."""

    code = "nonfinite-calibration"

    @staticmethod
    def entering(layer: str, batch: int) -> NonfiniteCalibrationError:
        """Return the error of NaN or infinity that entered a layer in a batch, counted from 1."""
        return NonfiniteCalibrationError(
            f"NaN or infinity entered the layer {layer} in calibration batch {batch}",
            "look for overflow in this dtype or for broken inputs; the layers before it passed",
        )


class ModelRunError(Nvfp4Error):
    """The model raised on the inputs that it was given."""

    code = "model-run"


# --- calibration ------------------------------------------------------------------------------------


class CalibrationInvalidError(Nvfp4Error):
    """A calibration file, or the state of a calibration, cannot be understood or is of another version."""

    code = "calibration-invalid"


class CalibrationMismatchError(Nvfp4Error):
    """A calibration, or the state of one, belongs to another model, recipe, set of layers or inputs."""

    code = "calibration-mismatch"


class RanksDisagreeError(Nvfp4Error):
    """The processes of a distributed calibration were started on different models, layers or recipes."""

    code = "ranks-disagree"


class RankFailedError(Nvfp4Error):
    """A process of a distributed calibration died, failed or cannot be reached; all of them end."""

    code = "rank-failed"
    exit_status = ENVIRONMENT_LACKS


# --- checkpoints ------------------------------------------------------------------------------------


class CheckpointConfigError(Nvfp4Error):
    """A quantized checkpoint's configuration is missing, unreadable, or contradicts its tensors."""

    code = "checkpoint-config"


class TensorMissingError(Nvfp4Error):
    """A quantized checkpoint lacks a tensor that its other tensors or its configuration call for."""

    code = "tensor-missing"


class TensorUnexpectedError(Nvfp4Error):
    """A quantized checkpoint has a tensor that its format has no meaning for."""

    code = "tensor-unexpected"


class TensorInvalidError(Nvfp4Error):
    """A tensor of a quantized checkpoint has another dtype or shape than its format's."""

    code = "tensor-invalid"


class ScaleInvalidError(Nvfp4Error):
    """A scale of a quantized checkpoint is zero, negative, NaN or infinite."""

    code = "scale-invalid"


class FormatCannotHoldError(Nvfp4Error):
    """A checkpoint says something that the format it was to be converted to has no place for."""

    code = "format-cannot-hold"


# --- recipes ----------------------------------------------------------------------------------------


class RecipeInvalidError(Nvfp4Error):
    """A recipe has an unknown key, an unknown base, or a value out of its set."""

    code = "recipe-invalid"


class PatternMatchesNothingError(Nvfp4Error):
    """A pattern given to select layers matches none."""

    code = "pattern-no-match"


class NothingToQuantizeError(Nvfp4Error):
    """No layer of the model can, or was asked to, be FP4."""

    code = "nothing-to-quantize"


# --- mixed precision --------------------------------------------------------------------------------


class BudgetUnmetError(Nvfp4Error):
    """No mixture of precisions meets the budget; the message says how close the best one came."""

    code = "budget-unmet"
    exit_status = RESULT_BELOW_THRESHOLD


class MetricFailedError(Nvfp4Error):
    """A budget's function raised, or returned no finite number for the float model."""

    code = "metric-failed"


# --- quantization-aware training --------------------------------------------------------------------


class PreparedAlreadyError(Nvfp4Error):
    """A model is prepared for quantization-aware training, where a float model is wanted."""

    code = "prepared-already"


class NotPreparedError(Nvfp4Error):
    """A model is not prepared for quantization-aware training, where one that is is wanted."""

    code = "not-prepared"


# --- export, build, audit ---------------------------------------------------------------------------


class ExportFailedError(Nvfp4Error):
    """`torch.export` or the ONNX exporter could not take the model."""

    code = "export-failed"


class OnnxInvalidError(Nvfp4Error):
    """An ONNX file's graph makes no sense: cyclic, not sorted, or reading what nothing makes."""

    code = "onnx-invalid"


class FixChangedMeaningError(Nvfp4Error):
    """After `export --fix`, the float model computes something else than before."""

    code = "fix-changed-meaning"
    exit_status = RESULT_BELOW_THRESHOLD


class NotFp4Error(Nvfp4Error):
    """A layer that `check --require` names would not be FP4."""

    code = "not-fp4"
    exit_status = RESULT_BELOW_THRESHOLD


class NotOurOnnxError(Nvfp4Error):
    """An ONNX file carries no nodes of the domain `nvfp4`, or of a version that is not known."""

    code = "onnx-not-nvfp4"


class TargetUnsupportedError(Nvfp4Error):
    """The chosen backend cannot build for the chosen GPU architecture."""

    code = "target-unsupported"


class UnknownGpuError(Nvfp4Error):
    """No figures are known for the GPU that a cost was to be modelled on."""

    code = "gpu-unknown"


class FeatureUnsupportedError(Nvfp4Error):
    """The chosen backend, at its installed version, lacks something that was asked for."""

    code = "feature-unsupported"
    exit_status = ENVIRONMENT_LACKS


class PluginsUnsupportedError(Nvfp4Error):
    """The chosen backend takes no plugins."""

    code = "plugins-unsupported"
    exit_status = ENVIRONMENT_LACKS


class PluginNodeError(Nvfp4Error):
    """A plugin node has an attribute, input, dtype, shape or address that its plugin does not take."""

    code = "plugin-node-invalid"


class BackendMissingError(Nvfp4Error):
    """No TensorRT module is installed, or not the one that was asked for."""

    code = "backend-missing"
    exit_status = ENVIRONMENT_LACKS


class DependencyMissingError(Nvfp4Error):
    """An optional package is needed for this input, and is not installed."""

    code = "dependency-missing"
    exit_status = ENVIRONMENT_LACKS


class ProfileError(Nvfp4Error):
    """A range for a dynamic dimension is missing, empty, or for a dimension the model has not."""

    code = "profile-invalid"


class ParseFailedError(Nvfp4Error):
    """TensorRT's ONNX parser refused the lowered model."""

    code = "parse-failed"
    exit_status = TENSORRT_FAILED


class BuildFailedError(Nvfp4Error):
    """TensorRT's builder returned no engine."""

    code = "build-failed"
    exit_status = TENSORRT_FAILED


class BuildCrashedError(Nvfp4Error):
    """The process that runs TensorRT died; the message ends with its log's last lines."""

    code = "build-crashed"
    exit_status = TENSORRT_FAILED


class Fp4LostError(Nvfp4Error):
    """A GEMM that the recipe asked to be FP4 is not, by the engine's own layer record."""

    code = "fp4-lost"
    exit_status = RESULT_BELOW_THRESHOLD


class Fp8LostError(Nvfp4Error):
    """A GEMM that the recipe asked to be FP8 is not, by the engine's own layer record."""

    code = "fp8-lost"
    exit_status = RESULT_BELOW_THRESHOLD


class OnnxRunError(Nvfp4Error):
    """ONNX Runtime refused an exported file, or failed while running it."""

    code = "onnx-run"


class BelowThresholdError(Nvfp4Error):
    """A comparison fell below a threshold that was set."""

    code = "below-threshold"
    exit_status = RESULT_BELOW_THRESHOLD


class BackendsDisagreeError(Nvfp4Error):
    """Two backends that compute the same, given the same, are further apart than rounding takes them."""

    code = "backends-disagree"
    exit_status = RESULT_BELOW_THRESHOLD


# --- reports ----------------------------------------------------------------------------------------


class ReportInvalidError(Nvfp4Error):
    """A file that was to be compared holds no report, or one of another version."""

    code = "report-invalid"


# --- serving ----------------------------------------------------------------------------------------


class BucketsInvalidError(Nvfp4Error):
    """Buckets are malformed, or contradict the model's dynamic dimensions."""

    code = "buckets-invalid"


class ShapeNotServedError(Nvfp4Error):
    """A request has a shape that no bucket of a serving set takes, nor its dynamic engine."""

    code = "shape-not-served"


class EngineRunError(Nvfp4Error):
    """TensorRT or the CUDA driver refused to load or to run an engine."""

    code = "engine-run"
    exit_status = TENSORRT_FAILED


class GpuMissingError(Nvfp4Error):
    """An engine was to run, and this machine has no NVIDIA driver, or no GPU."""

    code = "gpu-missing"
    exit_status = ENVIRONMENT_LACKS


class GpuUnsupportedError(Nvfp4Error):
    """An engine was to run on a GPU that it was not built for, or that TensorRT does not support."""

    code = "gpu-unsupported"
    exit_status = ENVIRONMENT_LACKS


class BenchInvalidError(Nvfp4Error):
    """A file of measurements cannot be understood, or is of another version."""

    code = "bench-invalid"


# --- kernels ----------------------------------------------------------------------------------------


class KernelCompileError(Nvfp4Error):
    """A kernel does not compile with the installed compiler; the message has its first lines."""

    code = "kernel-compile"
    exit_status = ENVIRONMENT_LACKS


class KernelNotFp4Error(Nvfp4Error):
    """A GEMM compiled for a Blackwell GPU holds no FP4 tensor-core instruction."""

    code = "kernel-not-fp4"
    exit_status = RESULT_BELOW_THRESHOLD


class KernelSpillsError(Nvfp4Error):
    """A kernel compiled for a Blackwell GPU keeps registers in local memory."""

    code = "kernel-spills"
    exit_status = RESULT_BELOW_THRESHOLD


class PackInvalidError(Nvfp4Error):
    """The manifest of a kernel pack cannot be understood, or is of a version that is not known."""

    code = "pack-invalid"


class KernelLaunchError(Nvfp4Error):
    """The CUDA driver refuses to load or to launch a kernel."""

    code = "kernel-launch"
    exit_status = ENVIRONMENT_LACKS


class KernelMissingError(Nvfp4Error):
    """A kernel pack has no cubin for what was asked: an architecture, a dtype or a tile."""

    code = "kernel-missing"


# --- the command line -------------------------------------------------------------------------------


class UnknownCodeError(Nvfp4Error):
    """`explain` was asked for a code that no error has."""

    code = "code-unknown"
