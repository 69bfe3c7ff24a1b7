"""What is compared: every row of the paper's ablations as a configuration of `signet-train`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, get_args

from benchmarks.ablations.world import World
from signet_train.config import FusionConfig, OptimisationConfig

Gating = Literal["router", "average", "concatenate"]
Reads = Literal["hands", "hands+body", "hands+body+face"]

# What the authors' code does otherwise than the paper (docs/official.md), one by one; what both of its commits do,
# together; and what the first of them does in Stage III.
AuthorsWay = Literal["router", "adapters", "dropout", "temperature", "prompt", "all", "unadapted"]
DIFFERENCES: tuple[AuthorsWay, ...] = get_args(AuthorsWay)
_PROMPT = "Translate sign language video to English: "


@dataclass(frozen=True)
class Variant:
    """One way to put experts to use in one task.

    Attributes:
        experts: by name; several are fused.
        aligned: with Stage II, contrastive alignment, before Stage III.
        trainable: a single expert that is not frozen (Table 6).
        source: the expert whose language model Stages II and III start from.
        share: percent of the pretraining data that the experts have seen (Fig. 5).
        as_authors: what is done as in the authors' code; None: nothing, all as in the paper.
    """

    experts: tuple[str, ...]
    source: str
    adapters: bool = True
    gating: Gating = "router"
    reads: Reads = "hands"
    aligned: bool = True
    trainable: bool = False
    share: int = 100
    as_authors: AuthorsWay | None = None

    @property
    def routed(self) -> bool:
        return self.gating == "router" and not self.trainable

    @property
    def name(self) -> str:
        """Safe as a directory."""
        parts = ["+".join(self.experts), self.gating]
        parts += ["adapters"] * self.adapters + ["aligned"] * self.aligned + ["trainable"] * self.trainable
        parts += [self.reads.replace("+", "-")] * (self.reads != "hands")
        parts += [f"from-{self.source}"] + [f"share-{self.share}"] * (self.share != 100)
        parts += [f"authors-{self.as_authors}"] * (self.as_authors is not None)
        return ",".join(parts)

    def model(self, sizes: dict[str, Any], stage: str) -> dict[str, Any]:
        """`ModelConfig` of Stage II or III. The router's k is inference's alone, and every k is evaluated."""
        if self.trainable:
            return {name: part for name, part in sizes.items() if name != "fusion"}
        fusion = {**sizes.get("fusion", {}), "gating": self.gating, "router_reads": self.reads}
        fusion["top_k"] = min(2, len(self.experts))
        if not self.adapters or (self.as_authors == "unadapted" and stage == "finetune"):
            fusion["adapter_rank"] = 0
        if self._does("router"):  # 128 where the paper's 1.5M ask for 1728
            fusion["router_hidden"] = max(4, round(FusionConfig(**fusion).router_hidden * 128 / 1728))
        if self._does("adapters"):
            fusion["adapter_start"] = "redrawn"
        if self._does("dropout"):
            fusion["attention_dropout"] = 0.1
        whole = {**sizes, "fusion": fusion}
        if self._does("prompt") and stage == "finetune":
            whole["language_model"] = {**sizes.get("language_model", {}), "prompt": _PROMPT}
        return whole

    def optimisation(self, given: OptimisationConfig) -> OptimisationConfig:
        """Return a stage's schedule with the variant's own settings."""
        return given.model_copy(update={"learn_temperature": False}) if self._does("temperature") else given

    def _does(self, what: AuthorsWay) -> bool:
        """Whether it is one of the ways that both commits share, or all of these."""
        return self.as_authors in (what, "all")


def source(world: World, task: str) -> str:
    """Sec. 3.7, C.1: the matched expert's language model, and the first expert's where none is matched."""
    return world.matched(task) or next(iter(world.experts))


def full(world: World, task: str) -> Variant:
    """SIGNET as the paper has it: all experts and all components."""
    return Variant(tuple(world.experts), source(world, task))


def single(expert: str, *, adapters: bool = False, aligned: bool = False, trainable: bool = False) -> Variant:
    """One expert, with its own language model."""
    return Variant((expert,), expert, adapters, "average", aligned=aligned, trainable=trainable)


def without(world: World, task: str, expert: str) -> Variant:
    """All experts but one, trained anew (Table 9)."""
    whole = full(world, task)
    return replace(whole, experts=tuple(e for e in whole.experts if e != expert))


def groups(world: World) -> list[tuple[str, ...]]:
    """Every set of two or more experts that is not all of them."""
    names = tuple(world.experts)
    return [group for size in range(2, len(names)) for group in combinations(names, size)]


def variants(world: World, task: str) -> Iterator[Variant]:
    """Everything that is trained for one task, the most telling first, each once."""
    whole = full(world, task)
    yield whole
    if "paper" in world.asks:
        yield from _of_the_paper(world, whole)
    if "authors" in world.asks:
        yield from (replace(whole, as_authors=what) for what in DIFFERENCES)  # docs/official.md


def _of_the_paper(world: World, whole: Variant) -> Iterator[Variant]:
    yield from (single(e) for e in world.experts)  # Table 6, frozen; Table 8, one backbone
    yield from (replace(whole, gating=g) for g in ("average", "concatenate"))  # Table 10
    yield replace(whole, aligned=False)  # Table 8
    yield from (replace(whole, experts=group) for group in groups(world))  # Tables 8 and 9
    yield from (single(e, trainable=True) for e in world.experts)  # Table 6
    yield from (replace(whole, reads=r) for r in ("hands+body", "hands+body+face"))  # Table 7
    yield replace(whole, adapters=False)  # Table 8
    yield from (replace(whole, source=e) for e in world.experts if e != whole.source)  # Table 15
    yield from (replace(whole, share=s) for s in world.shares if s != 100)  # Fig. 5
    for group in groups(world):  # Table 8
        yield replace(whole, experts=group, aligned=False)
        yield replace(whole, experts=group, aligned=False, adapters=False)
    for expert in world.experts:  # Table 8
        yield single(expert, adapters=True)
        yield single(expert, aligned=True)
        yield single(expert, adapters=True, aligned=True)
