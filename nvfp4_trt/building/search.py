"""Variants of one model, tried on its first blocks and then whole; the engine of the least modelled time stays."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nvfp4_trt.building.candidate import Candidate, finish, has_odd_rows, prepare, prepare_trial
from nvfp4_trt.building.outcomes import recall, remember
from nvfp4_trt.building.process import Job, run_builds
from nvfp4_trt.building.spec import BuildResult
from nvfp4_trt.building.variants import Variant, variants
from nvfp4_trt.errors import BuildCrashedError, BuildFailedError, Fp4LostError, Nvfp4Error, ParseFailedError
from nvfp4_trt.passes import KEPT_BLOCKS, find_blocks
from nvfp4_trt.stages import stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvfp4_trt.building.candidate import Built, Plan, Prepared
    from nvfp4_trt.building.process import Outcome
    from nvfp4_trt.building.variants import Optimize
    from nvfp4_trt.passes import Blocks

_OF_ONE_VARIANT = (BuildCrashedError, BuildFailedError, Fp4LostError, ParseFailedError)
"""What may befall one variant and spare another."""
_WHOLE: dict[Optimize, int] = {"off": 0, "fast": 1, "full": 3}
"""How many variants are built whole beside the plain one."""
WORTH = 0.98
"""A variant is worth its build where it takes at most this share of the plain one's modelled time: a smaller gain
is below what the model can tell."""
OVER = "not built: the search's time was over"
_UNCUT = "not tried: the graph cannot be cut behind its first blocks"


class Found(NamedTuple):
    """What a search found."""

    built: Built
    candidates: tuple[Candidate, ...]
    """Every variant that was tried, in the order of the trials."""
    over: bool
    """Whether the time was over before everything was tried."""


@dataclass
class _Search:
    """The state of a search."""

    plan: Plan
    work: Path
    name: str
    until: float
    cached: bool
    tried: list[Candidate] = field(default_factory=list)
    failed: list[Nvfp4Error] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether something was left undone for want of time."""
        return any(each.error == OVER for each in self.tried)

    def trials(self, each: Sequence[Variant], blocks: Blocks) -> list[Built]:
        """Build the first blocks of variants, or recall how that went."""
        prepared: list[Prepared | None] = []
        known: dict[int, BuildResult] = {}

        def jobs() -> Iterator[Job]:
            for index, variant in enumerate(each):
                made = prepare_trial(self.plan, variant, self.work / f"trial {index}" / self.name, blocks)
                prepared.append(made)
                if made is None:
                    continue
                if (found := self._recall(made)) is not None:
                    known[index] = found
                else:
                    yield Job(made.spec, made.folder, optional=True)

        outcomes = iter(run_builds(jobs(), self.until))
        built = []
        for index, (variant, made) in enumerate(zip(each, prepared, strict=True)):
            if made is None:
                self.tried.append(_told(variant).model_copy(update={"error": _UNCUT}))
                continue
            outcome = known[index] if index in known else next(outcomes)
            built += self._settle(made, outcome, KEPT_BLOCKS, keep=index not in known)
        return built

    def wholes(self, each: Sequence[Variant]) -> list[Built]:
        """Build the whole model in several variants.

        Where all outcomes are known from before, only the one that wins is built.
        """
        made: dict[Variant, Prepared] = {}

        def prepared(variant: Variant) -> Prepared:
            if variant not in made:
                made[variant] = prepare(self.plan, variant, self.work / variant.name / self.name)
            return made[variant]

        if len(each) > 1 and self._recall(prepared(each[0])) is not None:
            known = [self._recall(prepared(variant)) for variant in each]
            if all(known):
                ended = zip(each, known, strict=True)
                built = [x for v, k in ended for x in self._settle(prepared(v), k, 0, keep=False)]
                return self._again(_best(built)) if built else []
        # The one that TensorRT takes longest for begins, and the plain one is prepared meanwhile.
        order = [*each[1:2], each[0], *each[2:]]
        jobs = (Job(prepared(v).spec, prepared(v).folder, v != each[0]) for v in order)
        outcomes = dict(zip(order, run_builds(jobs, self.until), strict=True))
        return [x for v in each for x in self._settle(prepared(v), outcomes[v], 0, keep=True)]

    def _again(self, winner: Built) -> list[Built]:
        """Build what an earlier build's record says is the best."""
        (outcome,) = run_builds([Job(winner.prepared.spec, winner.prepared.folder)])
        if not isinstance(outcome, BuildResult):
            raise outcome or TypeError("a build that is not optional ends")
        return [finish(self.plan, winner.prepared, outcome)]

    def _recall(self, made: Prepared) -> BuildResult | None:
        return recall(made.key, made.spec) if self.cached else None

    def _settle(self, made: Prepared, outcome: Outcome, blocks: int, *, keep: bool) -> list[Built]:
        """Audit and cost one build, and note it; return it where it is sound."""
        told = _told(made.variant).model_copy(update={"blocks": blocks})
        if outcome is None:
            self.tried.append(told.model_copy(update={"error": OVER}))
            return []
        try:
            if isinstance(outcome, Nvfp4Error):
                raise outcome
            built = finish(self.plan, made, outcome)
        except _OF_ONE_VARIANT as error:
            self.failed.append(error)
            self.tried.append(told.model_copy(update={"error": _in_short(error)}))
            return []
        if keep and self.cached:
            remember(made.key, made.spec, outcome)
        figures = {
            "kernels": built.cost.kernels,
            "bytes": built.cost.bytes,
            "microseconds": round(built.cost.microseconds, 3),
            "predicted": round(built.predicted, 3) if blocks else 0.0,
            "seconds": round(outcome.seconds, 3),
        }
        self.tried.append(told.model_copy(update=figures))
        return [built]


def search(plan: Plan, optimize: Optimize, work: Path, name: str, *, budget: float, cached: bool) -> Found:
    """Build variants of a model and choose.

    Where the model consists of repeated blocks, variants are tried on the first ones, and those that are foreseen
    to take clearly less modelled time than the plain one (`WORTH`) are built whole, beside the plain one, which
    stays unless another does. Of a model without such blocks, each variant is built whole.

    Args:
        plan: what to build.
        optimize: how much is tried.
        work: each build gets a folder here.
        name: of the lowered file in it.
        budget: seconds after which only the plain variant is still built.
        cached: whether outcomes of earlier builds count, and those of this one are kept.

    Raises:
        BuildCrashedError, BuildFailedError, Fp4LostError, ParseFailedError: every variant failed; what the first
            one met.
        Nvfp4Error: any other error ends the search.
    """
    state = _Search(plan, work, name, time.monotonic() + budget, cached)
    odd_rows = optimize != "off" and has_odd_rows(plan)
    plain, *others = variants(optimize, plan.ranges, odd_rows=odd_rows)
    blocks = find_blocks(layer.name for layer in plan.metadata.layers if layer.quantized) if others else None
    if blocks is not None:
        with stage(f"trying {len(others) + 1} forms on the first blocks"):
            trials = state.trials([plain, *others], blocks)
        others = _promising(plain, others, trials, _WHOLE[optimize]) if trials or not state.over else []
    with stage("building the engine" if not others else f"building the engine in {len(others) + 1} forms"):
        built = state.wholes([plain, *others])
    if not built and state.failed:
        raise state.failed[0]
    return Found(_best(built), tuple(state.tried), state.over)


def _promising(plain: Variant, others: Sequence[Variant], trials: Sequence[Built], count: int) -> list[Variant]:
    """Return the variants whose trials predict less modelled time than the plain one's, the best ones first.

    Where no trial of the plain one went well, all that did are promising; where none at all did, the first are.
    """
    if not trials:
        return list(others[:count])
    found = {each.prepared.variant: each.predicted for each in trials}
    limit = WORTH * found.pop(plain, float("inf"))
    return sorted((each for each in found if found[each] < limit), key=lambda each: found[each])[:count]


def _best(built: Sequence[Built]) -> Built:
    """Return the engine of the least modelled time, or the plain one where that is worth nothing against it."""
    best = min(built, key=lambda each: each.cost.microseconds)
    plain = [each for each in built if each.prepared.variant == Variant()]
    return plain[0] if plain and best.cost.microseconds > WORTH * plain[0].cost.microseconds else best


def _told(variant: Variant) -> Candidate:
    return Candidate(form=variant.form, loosened=variant.loosened, padded=variant.padded)


def _in_short(error: Nvfp4Error) -> str:
    """Return code and message on one line."""
    return f"{error.code}: {error.message.splitlines()[0]}"
