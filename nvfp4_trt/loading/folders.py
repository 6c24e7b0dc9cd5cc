"""Loading Hugging Face folders: `config.json` beside safetensors, never code."""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import (
    DependencyMissingError,
    FileMissingError,
    NotAModelError,
    StateDictMismatchError,
    UntrustedCodeError,
    WrongKindError,
)
from nvfp4_trt.loading.safetensors_files import map_tensors
from nvfp4_trt.loading.sniffing import sniff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from nvfp4_trt.loading.checkpoints import StateDict

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SHOWN = 4


class Folder(NamedTuple):
    """A folder's module, the files that were read, and notes."""

    module: nn.Module
    files: list[Path]
    notes: list[str]


def load_folder(path: Path) -> Folder:
    """Load the class that `config.json` names in `architectures[0]`, with its weights.

    Nothing is downloaded, nothing is unpickled, and code in the folder is never run. Weights are mapped: they
    take memory when they are looked at. The module returns no key-value cache; attention is `sdpa` where the
    class has it, else `eager`.

    Args:
        path: a folder as `save_pretrained` writes it; the weights may be sharded.

    Raises:
        NotAModelError: no or no readable `config.json`, or no known architecture in it.
        UntrustedCodeError: `auto_map`: the model's code is in the folder.
        WrongKindError: its weights are pickled, or quantized already.
        FileMissingError: a shard that the index names is not there.
        FileTruncatedError: a weights file ends too early.
        DependencyMissingError: `transformers` is not installed.
        StateDictMismatchError: weights are missing, or have other shapes.
    """
    config = _loadable(path)
    if config.get("quantization_config"):
        raise WrongKindError(f"{path} is quantized already (quantization_config)", "give the original model")
    files = weight_files(path)
    for file in files:
        sniff(file)
    module, notes = fill_folder(path, map_tensors(files))
    index = [path / _INDEX] if len(files) > 1 else []
    return Folder(module, [path / "config.json", *index, *files], notes)


def fill_folder(path: Path, weights: StateDict) -> tuple[nn.Module, list[str]]:
    """Make the module that a folder's `config.json` names, with given weights.

    Raises:
        NotAModelError, UntrustedCodeError, DependencyMissingError, StateDictMismatchError: see `load_folder`.
    """
    config = _loadable(path)
    if importlib.util.find_spec("transformers") is None:
        raise DependencyMissingError(
            f"{path} is a Hugging Face folder: reading it needs transformers", "pip install 'nvfp4-trt[hf]'"
        )
    architecture = config["architectures"][0]
    module, attention, unexpected = _from_pretrained(path, architecture, weights)
    module.config.use_cache = False
    notes = [f"{architecture} with {attention} attention, without a key-value cache"]
    if unexpected:
        notes.append(f"passed over {len(unexpected)} weights that {architecture} has no place for")
    return module.eval(), notes


def read_config(path: Path) -> dict[str, Any]:
    """Return what a folder's `config.json` holds.

    Raises:
        NotAModelError: there is none, or it is no JSON object.
    """
    file = path / "config.json"
    if not file.is_file():
        raise NotAModelError(
            f"the folder {path} has no config.json: it is not a Hugging Face model",
            "give a folder that `save_pretrained` wrote, or a single file",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotAModelError(f"{file} is not JSON: {error}", "write it again with save_pretrained") from error
    return config if isinstance(config, dict) else {}


def _loadable(path: Path) -> dict[str, Any]:
    """Return the configuration of a model that a class of `transformers` can be made of."""
    config, file = read_config(path), path / "config.json"
    if config.get("auto_map"):
        raise UntrustedCodeError(
            f"{file} has an auto_map: the model's code is in the folder or on a server, and is never run",
            "load it yourself in a factory, and give its weights: "
            f"nvfp4-trt export {path / _SINGLE} --model package.module:factory",
        )
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise NotAModelError(
            f"{file} names no architecture", 'add the class, such as `"architectures": ["BertModel"]`'
        )
    return config


def weight_files(path: Path) -> list[Path]:
    """Return a folder's safetensors files: the one, or the shards that its index names.

    Raises:
        WrongKindError: its weights are pickled.
        FileMissingError: there are none, or not all.
        NotAModelError: the index cannot be read.
    """
    if (path / _SINGLE).is_file():
        return [path / _SINGLE]
    if (path / _INDEX).is_file():
        return _shards(path)
    pickled = sorted(f.name for f in path.glob("pytorch_model*.bin"))
    if pickled:
        raise WrongKindError(
            f"{path} has its weights in {pickled[0]}, which is pickled, and no safetensors",
            'convert them: python -c "import transformers as t; '
            f"t.AutoModel.from_pretrained('{path}').save_pretrained('{path}-safetensors')\"",
        )
    raise FileMissingError(
        f"{path} has a config.json, but neither {_SINGLE} nor {_INDEX}", "download or copy the weights too"
    )


def _shards(path: Path) -> list[Path]:
    try:
        index = json.loads((path / _INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise NotAModelError(
            f"{path / _INDEX} is no index: {first_line(error)}", "write it again with save_pretrained"
        ) from error
    outside = [name for name in names if not isinstance(name, str) or "/" in name or "\\" in name]
    if outside:
        raise NotAModelError(f"{path / _INDEX} names a file outside its folder: {outside[0]!r}", "write it again")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise FileMissingError(
            f"{path}: {len(missing)} of {len(names)} weights files are not there, such as {missing[0]}",
            "download or copy them too",
        )
    return [path / name for name in names]


def _from_pretrained(path: Path, architecture: str, weights: StateDict) -> tuple[Any, str, list[str]]:
    """Return the module, its attention implementation, and the names of unused weights."""
    import transformers

    found = getattr(transformers, architecture, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise NotAModelError(
            f"{path}: transformers {transformers.__version__} has no model class {architecture!r}",
            "install a version of transformers that has it, or load it in a factory of your own (--model)",
        )
    try:
        with _quiet(transformers.logging):
            return _with_attention(found, path, weights)
    except StateDictMismatchError:
        raise
    except Exception as error:  # whatever a model's class raises on a configuration that it does not fit
        raise NotAModelError(
            f"{path}: {architecture} cannot be loaded: {first_line(error)}", "check its config.json"
        ) from error


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Silence transformers' warnings and progress bars: what they would tell is checked here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _with_attention(cls: Any, path: Path, weights: StateDict) -> tuple[Any, str, list[str]]:
    options = {
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # it would only raise: the report names them, and so do we
        "dtype": "auto",
    }
    attention = "sdpa" if getattr(cls, "_supports_sdpa", False) else "eager"
    config = cls.config_class.from_pretrained(path, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # what reads quantized weights is here
    # Given tensors are put into the module as they are: mapped ones stay mapped.
    module, info = cls.from_pretrained(
        None, config=config, state_dict=weights, attn_implementation=attention, **options
    )
    shapes = [f"{n} (file {list(a)}, config {list(b)})" for n, a, b in sorted(info["mismatched_keys"])]
    if shapes:
        raise StateDictMismatchError(
            f"{path}: {len(shapes)} weights do not have the shapes of config.json: {_few(shapes)}",
            "restore the config.json that the weights were saved with",
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise StateDictMismatchError(
            f"{path} lacks {len(missing)} weights of {cls.__name__}: {_few(missing)}",
            "name in config.json's architectures the class that the weights were saved from",
        )
    return module, attention, sorted(info["unexpected_keys"])


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
