"""Several processes that calibrate together: who runs what, whether all are well, and the sum of what they saw.

They meet in the key-value store that `torchrun` gives them. Each says there that it lives, once a second, and a
rank that fails says why; the others look after every batch. The process group is made only when all are through,
for the reduction alone: until then no rank can hang in a collective that another will not join.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, NoReturn, cast

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from nvfp4_trt.calibration.alone import Alone
from nvfp4_trt.calibration.state import differing
from nvfp4_trt.causes import first_line
from nvfp4_trt.errors import Nvfp4Error, RankFailedError, RanksDisagreeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from nvfp4_trt.calibration.statistics import Statistics

_JOIN = timedelta(seconds=45)
_BEAT = 1.0
"""Seconds between two signs of life."""
_LOST = 40.0
"""Seconds without one after which a rank counts as dead: all end within a minute."""
_POLL = 0.05
_LINGER = 2.0
"""Seconds that a rank with nothing to tell waits: where one process ends, torchrun ends the others at once."""

_joined = 0


@contextlib.contextmanager
def join(device: str | torch.device | None = None) -> Iterator[Alone]:
    """Yield this process's place among those that `torchrun` started; alone, where there are no others.

    An exception inside becomes every rank's: the first that raised raises its own, all others a
    `RankFailedError` that is marked as told elsewhere.

    Args:
        device: that statistics are reduced on: a CUDA device means NCCL, anything else gloo.

    Raises:
        RankFailedError: a rank died, failed or did not come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:  # noqa: PLR2004 (together is two or more)
        yield Alone()
        return
    ranks = Together(_open_store(), torch.device(device or "cpu"))
    try:
        with ranks.ending_well():
            yield ranks
    except Exception as error:  # noqa: BLE001 (whatever it was, the others must not wait for this rank)
        ranks.fail(error)
    finally:
        ranks.close()


@cache
def _store() -> Store:
    """Return the store of this run; where the process group exists already, the one that it was made from."""
    if distributed.is_initialized():
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return distributed.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=_JOIN, wait_for_workers=False
        )
    store, _rank, _count = next(rendezvous("env://", timeout=_JOIN))
    return cast("Store", store)


def _open_store() -> Store:
    """Return the part of the store that belongs to this calibration of this run."""
    global _joined  # noqa: PLW0603 (a run may calibrate several models, each rank in the same order)
    _joined += 1
    try:
        return PrefixStore(f"nvfp4-trt/calibration/{_joined}", _store())
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise RankFailedError(
            f"the ranks did not find each other within {_JOIN.seconds} s: {first_line(error)}",
            "start them with torchrun, all at once",
        ) from error


class Together(Alone):
    """One of several ranks.

    Args:
        store: empty, and common to all ranks.
        device: that statistics are reduced on.
    """

    def __init__(self, store: Store, device: torch.device) -> None:
        super().__init__(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        self._store, self._device = store, device
        self._trouble: Nvfp4Error | None = None
        self._failing = False
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        self._watch.start()

    def agree(self, identity: Mapping[str, str]) -> None:
        """Make sure that all ranks calibrate the same.

        Raises:
            RanksDisagreeError: a rank's identity is not rank 0's.
            RankFailedError: a rank died or failed meanwhile.
        """
        said = self._exchange("identity", json.dumps(dict(identity)))
        first = json.loads(said[0])
        for rank, text in enumerate(said):
            other = json.loads(text)
            for key in first:
                if other.get(key) != first[key]:
                    raise RanksDisagreeError(
                        f"rank {rank} has another {key} than rank 0: {differing(other.get(key), first[key])}",
                        "start every rank with the same model, options and version of nvfp4-trt",
                    )

    def check(self) -> None:
        """Look whether all other ranks are well.

        Raises:
            RankFailedError: one died, or failed.
        """
        if self._trouble is not None:
            raise self._trouble

    def reduce(self, totals: dict[str, Statistics], batches: int) -> int:
        """Turn each layer's statistics into those of all ranks; return how many batches these ran together.

        Raises:
            RankFailedError: a rank died or failed before it was through, or in the reduction.
        """
        counted = sum(int(text) for text in self._exchange("done", str(batches)))
        try:
            with self._process_group():
                self._sum(totals)
        except RuntimeError as error:
            raise RankFailedError(
                f"the statistics could not be reduced: {first_line(error)}", "run it again, with --state"
            ) from error
        return counted

    @contextlib.contextmanager
    def ending_well(self) -> Iterator[None]:
        """Make an error of SIGTERM, which torchrun sends to the other processes when one is gone."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may
            return
        before = signal.signal(signal.SIGTERM, self._terminated)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    def _terminated(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._failing:
            raise RankFailedError(
                f"rank {self.rank} was told to end (SIGTERM), as torchrun does where another process is gone",
                "look for what ended that one (often a lack of memory); run it again, with --state",
            )

    def fail(self, error: Exception) -> NoReturn:
        """Tell the other ranks of an error, and raise it; or another, if theirs was told first."""
        self._failing = True
        first = True
        with contextlib.suppress(RuntimeError):  # the store went with the rank that holds it
            mine = json.dumps([self.rank, str(error)])
            first = self._store.compare_set("error", "", mine).decode() == mine
        if first and not (isinstance(error, Nvfp4Error) and error.told_elsewhere):
            raise error
        time.sleep(_LINGER)
        silent = error if isinstance(error, Nvfp4Error) else RankFailedError(first_line(error), "see rank 0")
        silent.told_elsewhere = True
        raise silent

    def close(self) -> None:
        """Stop giving signs of life."""
        self._over.set()
        self._watch.join()

    def _exchange(self, what: str, mine: str) -> list[str]:
        """Give all ranks a text, and return theirs in order, once all have given one."""
        self._store.set(f"{what}/{self.rank}", mine)
        keys = [f"{what}/{rank}" for rank in range(self.count)]
        while True:
            self.check()
            with self._store_errors():
                if self._store.check(keys):
                    return [self._store.get(key).decode() for key in keys]
            time.sleep(_POLL)

    def _live(self) -> None:
        """Give signs of life, and look for those of the others."""
        last = {rank: (b"", time.monotonic()) for rank in range(self.count) if rank != self.rank}
        beat = 0
        while not self._over.wait(_BEAT if beat else 0):
            beat += 1
            try:
                self._store.set(f"alive/{self.rank}", str(beat))
                self._trouble = self._reported() or self._missed(last)
            except RuntimeError:
                self._trouble = RankFailedError(
                    "the store of the run cannot be reached: who holds it (rank 0, or torchrun) ended",
                    "look for what that one printed; run it again, with --state",
                )
            if self._trouble is not None:
                return

    def _reported(self) -> Nvfp4Error | None:
        if not self._store.check(["error"]):
            return None
        rank, message = json.loads(self._store.get("error"))
        if rank == self.rank:
            return None
        told = RankFailedError(f"rank {rank} failed: {message}", f"see what rank {rank} printed")
        told.told_elsewhere = True
        return told

    def _missed(self, last: dict[int, tuple[bytes, float]]) -> Nvfp4Error | None:
        now = time.monotonic()
        for rank, (seen, since) in last.items():
            key = f"alive/{rank}"
            beat = self._store.get(key) if self._store.check([key]) else b""
            if beat != seen:
                last[rank] = (beat, now)
            elif now - since > _LOST and not self._store.check([f"done/{rank}"]):
                return RankFailedError(
                    f"rank {rank} gave no sign of life for {_LOST:.0f} s: it died or cannot be reached",
                    "look for what killed it (often a lack of memory); run it again, with --state",
                )
        return None

    @contextlib.contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankFailedError(
                f"the store of the run cannot be reached: {first_line(error)}", "run it again, with --state"
            ) from error

    @contextlib.contextmanager
    def _process_group(self) -> Iterator[None]:
        """Have a process group: the one that there is, or one for this reduction."""
        if distributed.is_initialized():
            yield
            return
        cuda = self._device.type == "cuda"
        distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=PrefixStore("group", self._store),
            rank=self.rank,
            world_size=self.count,
            timeout=_JOIN,
            device_id=self._device if cuda else None,
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def _sum(self, totals: dict[str, Statistics]) -> None:
        layers = list(totals.values())
        largest = torch.tensor([seen.largest for seen in layers], dtype=torch.float32, device=self._device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        for seen, value in zip(layers, largest.tolist(), strict=True):
            seen.largest = value
            counts = torch.cat([torch.from_numpy(each) for each in seen.counts]).to(self._device)
            distributed.all_reduce(counts, distributed.ReduceOp.SUM)
            seen.put(counts.cpu().numpy())
