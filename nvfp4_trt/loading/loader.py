"""`load_model`: one door for everything that people call a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from nvfp4_trt.errors import FileMissingError, WrongKindError
from nvfp4_trt.loading.checkpoints import unwrap_checkpoint
from nvfp4_trt.loading.folders import load_folder
from nvfp4_trt.loading.hashing import hash_meanwhile, hash_module
from nvfp4_trt.loading.loaded import LoadedModel, SourceKind
from nvfp4_trt.loading.pickles import read_pickle
from nvfp4_trt.loading.programs import load_program
from nvfp4_trt.loading.safetensors_files import map_tensors
from nvfp4_trt.loading.sniffing import FileKind, sniff
from nvfp4_trt.loading.state_dicts import fill_factory

if TYPE_CHECKING:
    from nvfp4_trt.loading.checkpoints import StateDict
    from nvfp4_trt.loading.spill import Spill


def load_model(
    source: str | Path | nn.Module,
    *,
    factory: str | None = None,
    trust_pickle: bool = False,
    spill: Spill | None = None,
) -> LoadedModel:
    """Load a model from a file, a folder or memory, running no code that a file carries.

    Args:
        source: a state dict or checkpoint (`.pt`), a safetensors file, a `torch.export` program (`.pt2`),
            a pickled module, a Hugging Face folder, or a module (which is put into eval mode). What a file
            is, its bytes say: its suffix does not matter.
        factory: `package.module:function`, called without arguments, whose module takes the weights of a
            state dict or a safetensors file.
        trust_pickle: whether code that the file carries may run.
        spill: where weights that are cast to the factory's dtype are kept; in memory by default.

    Raises:
        FileMissingError: `source` does not exist.
        FileTruncatedError: it ends too early.
        NotAModelError: it is not a model.
        WrongKindError: it is a model of a kind that cannot be used, or not with or without a factory.
        UntrustedCodeError: loading would run code that the file carries.
        DependencyMissingError: a package that it needs is not installed.
        StateDictMismatchError: its weights do not fit the module.
        FactoryImportError: the factory cannot be imported, or raised.
        FactoryResultError: the factory returned no module.
    """
    if isinstance(source, nn.Module):
        _refuse_factory(factory, "a module in memory")
        name = f"{type(source).__module__}.{type(source).__qualname__}"
        digest = hash_module(source)
        return LoadedModel(source.eval(), SourceKind.MODULE, name, lambda: digest, None, ())
    path = Path(source)
    if not path.exists():
        raise FileMissingError(f"{path} does not exist", "check the path")
    if path.is_dir():
        _refuse_factory(factory, f"{path} (a Hugging Face folder)")
        module, files, notes = load_folder(path)
        return LoadedModel(module, SourceKind.FOLDER, str(source), hash_meanwhile(files), None, tuple(notes))
    return _load_file(path, str(source), factory, trust_pickle, spill)


def _load_file(path: Path, source: str, factory: str | None, trust: bool, spill: Spill | None) -> LoadedModel:
    kind = sniff(path)
    if kind in {FileKind.PROGRAM, FileKind.PROGRAM_LEGACY}:
        _refuse_factory(factory, f"{path} (a torch.export program)")
        program = load_program(path, kind, trust=trust)
        return LoadedModel(
            program.module,
            SourceKind.PROGRAM,
            source,
            hash_meanwhile([path]),
            program.example,
            tuple(program.notes),
        )
    if kind is FileKind.SAFETENSORS:
        _require_factory(factory, path, "a safetensors file")
        weights: StateDict = map_tensors([path])
        notes: list[str] = []
        saved_as = SourceKind.SAFETENSORS
    else:
        loaded = read_pickle(path, kind, trust=trust)
        if isinstance(loaded, nn.Module):
            _refuse_factory(factory, f"{path} (a pickled nn.Module)")
            return LoadedModel(
                loaded.eval(),
                SourceKind.PICKLED_MODULE,
                source,
                hash_meanwhile([path]),
                None,
                ("code in the file ran",),
            )
        weights, notes = unwrap_checkpoint(loaded, str(path))
        saved_as = SourceKind.STATE_DICT
    filled = fill_factory(_require_factory(factory, path, "a state dict"), weights, str(path), spill)
    hashed = hash_meanwhile([path])
    return LoadedModel(filled.module, saved_as, source, hashed, None, (*notes, *filled.notes))


def _require_factory(factory: str | None, path: Path, what: str) -> str:
    if factory is None:
        raise WrongKindError(
            f"{path} is {what}: it holds weights and no module to put them in",
            f"name a function that builds the module: nvfp4-trt export {path} --model package.module:factory",
        )
    return factory


def _refuse_factory(factory: str | None, what: str) -> None:
    if factory is not None:
        raise WrongKindError(
            f"--model {factory} is for weights without a module, and {what} is a whole model",
            "leave out --model",
        )
