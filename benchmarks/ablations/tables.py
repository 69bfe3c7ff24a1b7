"""The paper's tables, and ours beside them: character error rates in percent, means over seeds with their deviation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from tabulate import tabulate

from benchmarks.ablations.scores import Results, Trial
from benchmarks.ablations.variants import Variant, full, groups, single, without
from benchmarks.ablations.world import World


@dataclass(frozen=True)
class Table:
    """One question: the paper's figures, as printed, and ours."""

    title: str
    paper: str
    ours: str


def cell(trials: dict[int, Trial]) -> str:
    """Return the error rate's mean over seeds, and their standard deviation where there are several."""
    if not trials:
        return "–"
    rates = [100 * trial.error_rate for trial in trials.values()]
    return f"{np.mean(rates):.1f}" + (f" ± {np.std(rates, ddof=1):.1f}" if len(rates) > 1 else "")


def tables(world: World, results: Results) -> Iterator[Table]:
    """Every table of the report."""
    for make in (
        summary,
        zero_shot,
        frozen,
        router_inputs,
        components,
        fusion,
        left_out,
        pairs,
        preference,
        gate,
        share,
        source_model,
    ):
        yield make(world, results)


def _grid(header: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def by_task(world: World, results: Results, rows: dict[str, dict[str, Variant | None]]) -> str:
    """Lay out a row a name, a column a task."""
    cells = [
        [name, *(cell(results.get(task, own[task])) if own.get(task) else "" for task in world.tasks)]  # type: ignore[arg-type]
        for name, own in rows.items()
    ]
    return _grid(["", *world.tasks], cells)


def summary(world: World, results: Results) -> Table:
    rows = []
    for task, languages in world.tasks.items():
        trials = list(results.get(task, full(world, task)).values())
        row = [task, ", ".join(languages), world.matched(task) or "none"]
        if trials:
            bleu = np.mean([trial.bleu(world.tokenize) for trial in trials], axis=0)
            exact = 100 * np.mean([trial.exact for trial in trials])
            row += [cell(results.get(task, full(world, task))), *(f"{b:.1f}" for b in bleu), f"{exact:.0f}"]
        rows.append(row)
    header = ["task", "sign languages", "seen by", "characters wrong, %", "BLEU-1", "-2", "-3", "-4", "all right, %"]
    return Table("SIGNET, all components, k = 2", "", _grid(header, rows))


def zero_shot(world: World, results: Results) -> Table:
    unseen = [task for task in world.tasks if world.matched(task) is None]
    readers = {f"expert {e}, with its own mT5": f"zero-shot:{e}" for e in world.experts}
    if world.mixed:
        readers[f"SIGNET tuned on {', '.join(world.mixed)}"] = "zero-shot:mixed"
    rows = [
        [name, *(cell(results.get(t, key, 2 if key.endswith("mixed") else None)) for t in unseen)]
        for name, key in readers.items()
    ]
    tuned = ["SIGNET tuned on it", *(cell(results.get(task, full(world, task))) for task in unseen)]
    return Table(
        "Zero-shot: languages that neither experts nor tuning have seen", "", _grid(["", *unseen], [*rows, tuned])
    )


def frozen(world: World, results: Results) -> Table:
    rows: dict[str, dict[str, Variant | None]] = {}
    for trainable in (True, False):
        for expert in world.experts:
            variant = single(expert, trainable=trainable)
            rows[f"{expert}, {'trainable' if trainable else 'frozen'}"] = dict.fromkeys(world.tasks, variant)
    paper = """BLEU-4 | Phoenix14T | CSL-Daily | How2Sign
CSL-News, trainable | 11.47 | 25.56 | 6.8
YT-ASL, trainable | 12.04 | 13.8 | 14.4
CSL-News, frozen | 23.30 | 24.65 | 10.3
YT-ASL, frozen | 24.05 | 20.7 | 13.1"""
    return Table("Table 6: a single backbone, frozen or trainable", paper, by_task(world, results, rows))


def router_inputs(world: World, results: Results) -> Table:
    rows: dict[str, dict[str, Variant | None]] = {
        reads: {task: replace(full(world, task), reads=reads) for task in world.tasks}
        for reads in ("hands", "hands+body", "hands+body+face")
    }
    paper = """BLEU-4 | Phoenix14T | CSL-Daily
Hands | 27.78 | 28.27
Hands + Body | 26.23 | 26.78
Hands + Body + Face | 25.12 | 24.94"""
    return Table("Table 7: what the router reads", paper, by_task(world, results, rows))


def components(world: World, results: Results) -> Table:
    """As in the paper, the best choice of one or two experts; by the test's own error rate, which flatters them."""
    rows = []
    names = tuple(world.experts)
    for adapters, aligned in ((False, False), (True, False), (False, True), (True, True)):
        own = [single(e, adapters=adapters, aligned=aligned) for e in names]
        rows.append(_component_row(world, results, "1", "–", adapters, False, aligned, dict.fromkeys(world.tasks, own)))
    for k, adapters, aligned in ((1, False, False), (1, True, False), (1, True, True), (2, True, True)):
        own_of = {
            t: [replace(full(world, t), experts=g, adapters=adapters, aligned=aligned) for g in groups(world)]
            for t in world.tasks
        }
        rows.append(_component_row(world, results, "2", str(k), adapters, True, aligned, own_of))
    for k, adapters, aligned in ((1, True, True), (2, True, False), (2, False, True), (2, True, True), (3, True, True)):
        own_of = {t: [replace(full(world, t), adapters=adapters, aligned=aligned)] for t in world.tasks}
        rows.append(_component_row(world, results, str(len(names)), str(k), adapters, True, aligned, own_of))
    header = ["experts", "k", "adapter", "gating", "contrastive", *world.tasks]
    paper = """experts | k | adapter | gating | contrastive | Phoenix14T B-4 | CSL-Daily B-4
1 | – | no | no | no | 24.05 | 25.56
1 | – | yes | no | no | 23.85 | 26.23
1 | – | no | no | yes | 24.65 | 26.20
1 | – | yes | no | yes | 25.12 | 25.58
2 | 1 | no | yes | no | 25.36 | 24.45
2 | 1 | yes | yes | no | 26.35 | 27.30
2 | 1 | yes | yes | yes | 27.15 | 26.65
2 | 2 | yes | yes | yes | 27.10 | 26.10
3 | 1 | yes | yes | yes | 27.20 | 27.25
3 | 2 | yes | yes | no | 27.78 | 26.50
3 | 2 | yes | yes | yes | 27.63 | 28.27
3 | 3 | yes | yes | yes | 26.30 | 26.90"""
    return Table("Table 8: components, k and the number of experts", paper, _grid(header, rows))


def _component_row(
    world: World,
    results: Results,
    experts: str,
    k: str,
    adapters: bool,
    gating: bool,
    aligned: bool,
    choices: dict[str, list[Variant]],
) -> list[str]:
    cells = []
    for task in world.tasks:
        found = [results.get(task, v, int(k) if k != "–" else None) for v in choices[task]]
        found = [trials for trials in found if trials]
        best = min(found, key=lambda trials: np.mean([t.error_rate for t in trials.values()]), default={})
        cells.append(cell(best))
    return [experts, k, *("yes" if on else "no" for on in (adapters, gating, aligned)), *cells]


def fusion(world: World, results: Results) -> Table:
    names = {"average": "average all experts", "concatenate": "concatenate experts", "router": "SIGNET, k = 2"}
    rows: dict[str, dict[str, Variant | None]] = {
        name: {task: replace(full(world, task), gating=gating) for task in world.tasks}  # type: ignore[arg-type]
        for gating, name in names.items()
    }
    paper = """BLEU-4 | Phoenix14T | CSL-Daily
Average all experts | 24.12 | 25.08
Concatenate experts | 24.30 | 25.75
SIGNET (adaptive gating) | 27.78 | 28.27"""
    return Table("Table 10: how experts are combined", paper, by_task(world, results, rows))


def left_out(world: World, results: Results) -> Table:
    names = list(world.experts)
    rows = [["SIGNET", "", *(cell(results.get(t, full(world, t))) for t in world.tasks)]]
    for i, expert in enumerate(names):
        masked = [cell(results.get(t, full(world, t), min(2, len(names) - 1), i)) for t in world.tasks]
        rows.append([f"without {expert}", "masked at inference", *masked])
    if len(names) > 2:
        for expert in names:
            trained = [cell(results.get(t, without(world, t, expert))) for t in world.tasks]
            rows.append([f"without {expert}", "trained anew", *trained])
    paper = """BLEU-4 (drop) | Phoenix14T | CSL-Daily | How2Sign | MeineDGS
SIGNET | 27.78 | 28.27 | 15.4 | 2.75
without ASL | 23.04 (4.74) | 26.79 (1.48) | 9.8 (5.6) | 1.05 (1.7)
without BSL | 24.02 (3.76) | 27.84 (0.43) | 14.9 (0.5) | 1.65 (1.1)
without CSL | 24.68 (3.10) | 21.71 (6.56) | 14.1 (1.3) | 2.05 (0.7)"""
    return Table("Table 9: leave one expert out, k = 2", paper, _grid(["", "", *world.tasks], rows))


def pair_shares(world: World, trials: dict[int, Trial]) -> dict[tuple[str, ...], float]:
    """How often each set of experts is chosen, over all seeds' clips."""
    names, counts = list(world.experts), Counter[tuple[str, ...]]()
    for trial in trials.values():
        assert trial.weights is not None
        counts.update(tuple(name for name, w in zip(names, row, strict=True) if w > 0) for row in trial.weights)
    total = max(1, counts.total())
    return {pair: counts[pair] / total for pair in combinations(names, min(2, len(names)))}


def pairs(world: World, results: Results) -> Table:
    shares = {task: pair_shares(world, results.get(task, full(world, task))) for task in world.tasks}
    found = combinations(world.experts, min(2, len(world.experts)))
    rows = [[" + ".join(pair), *(f"{shares[t].get(pair, 0):.0%}" for t in world.tasks)] for pair in found]
    paper = """By its text, the two pairs with the language-matched backbone make up 83.7% on CSL-Daily and 79.9% on
How2Sign; on the DGS data sets no pair exceeds 51%."""
    return Table("Figure 4: which pair the router takes", paper, _grid(["", *world.tasks], rows))


def preferred(trials: dict[int, Trial]) -> list[np.ndarray]:
    """Return of each seed the share of clips for which each expert has the largest weight, float (experts,)."""
    found = []
    for trial in trials.values():
        assert trial.weights is not None
        first = trial.weights.argmax(axis=1)
        found.append(np.bincount(first, minlength=trial.weights.shape[1]) / len(first))
    return found


def preference(world: World, results: Results) -> Table:
    rows = []
    for start in world.experts:
        for i, expert in enumerate(world.experts):
            cells = []
            for task in world.tasks:
                shares = preferred(results.get(task, replace(full(world, task), source=start)))
                cells.append(f"{np.mean([own[i] for own in shares]):.0%}" if shares else "–")
            rows.append([f"mT5 of {start}", expert, *cells])
    title = "Whose expert has the largest weight, by whose language model training started from"
    return Table(title, "", _grid(["", "expert", *world.tasks], rows))


def gate(world: World, results: Results) -> Table:
    rows = []
    for k in range(1, len(world.experts) + 1):
        for name in ("confidence", "redundancy"):
            cells = []
            for task in world.tasks:
                values = [getattr(t, name) for t in results.get(task, full(world, task), k).values()]
                cells.append(f"{np.mean(values):.2f}" if values and not np.isnan(values).any() else "–")
            rows.append([str(k), name, *cells])
    paper = """No figures: k = 2 "yields higher gate confidence and lower pairwise expert redundancy"."""
    return Table(
        "Section 4.2: the gate's confidence and the experts' redundancy", paper, _grid(["k", "", *world.tasks], rows)
    )


def share(world: World, results: Results) -> Table:
    rows: dict[str, dict[str, Variant | None]] = {
        f"{s}%": {task: replace(full(world, task), share=s) for task in world.tasks} for s in sorted(world.shares)
    }
    paper = "A plot without figures: translation improves consistently with the share, without a plateau."
    return Table("Figure 5: how much the experts were pretrained on", paper, by_task(world, results, rows))


def source_model(world: World, results: Results) -> Table:
    unseen = [task for task in world.tasks if world.matched(task) is None]
    rows: dict[str, dict[str, Variant | None]] = {
        f"mT5 of {expert}": {task: replace(full(world, task), source=expert) for task in unseen}
        for expert in world.experts
    }
    paper = """BLEU-4 | Phoenix14T | MeineDGS
from CSL | 27.82 ± 0.10 | 2.75 ± 0.07
from ASL | 27.89 ± 0.12 | 2.79 ± 0.07
from BSL | 27.85 ± 0.13 | 2.81 ± 0.10"""
    cells = [[name, *(cell(results.get(t, own[t])) for t in unseen)] for name, own in rows.items()]  # type: ignore[arg-type]
    return Table("Table 15: whose language model unseen languages start from", paper, _grid(["", *unseen], cells))
