"""The report: what was run, the verdicts, the tables, two pictures, and the record of every run."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks.ablations.claims import claims
from benchmarks.ablations.official import official, official_claims
from benchmarks.ablations.runs import Study
from benchmarks.ablations.scores import Results
from benchmarks.ablations.tables import pair_shares, summary, tables
from benchmarks.ablations.variants import full
from benchmarks.ablations.verdicts import SAME, Claim
from benchmarks.ablations.world import one_signer_each
from benchmarks.measuring.report import header
from signet_runtime.files import whole_file
from signet_train.data.manifest import read_manifests

_SPLITS = ("train", "dev", "test")

_HOW = f"""A difference counts if the middle 95% of its bootstrap lie on one side of zero, and two variants count as the
same if they lie within {SAME:g} points. The bootstrap draws seeds and, within each task, test words, the same for both
of a pair: both variants have read the same words, and their seeds began alike. Differences are of character error
rates, in points, with those 95% in brackets."""


def write_report(study: Study) -> None:
    """report.md, its pictures and runs.jsonl.gz in the study's directory; rows that were not run are dashes."""
    world, out = study.world, study.out
    results = Results(out, world.seeds)
    expected = list(study.jobs(world.seeds))
    done = sum(job.file.is_file() for job in expected)
    parts = ["# Does it transfer?", world.note.strip(), _world_table(study)]
    parts.append(f"{done} of {len(expected)} trainings, {len(world.seeds)} seeds. {header()}")
    parts.append("## Verdicts")
    parts.append(_HOW)
    of_paper, of_authors = "paper" in world.asks, "authors" in world.asks
    if of_paper:
        found = claims(world, results, one_signer_each(study.data.downstream))
        parts.append("\n".join(_verdict(claim) for claim in found))
    if of_authors:
        parts.append("Of what the paper's authors do otherwise in their code:")
        parts.append("\n".join(_verdict(claim) for claim in official_claims(world, results)))
    parts.append(
        "## Tables\n\nCharacters wrong in percent, mean and deviation over seeds; less is better. The paper's "
        "figures are BLEU-4; more is better."
    )
    shown = list(tables(world, results)) if of_paper else [summary(world, results)]
    shown += [official(world, results)] if of_authors else []
    for table in shown:
        parts += [f"### {table.title}", table.ours]
        if table.paper:
            parts.append("The paper:\n\n" + _markdown(table.paper))
    if of_paper:
        _draw_shares(study, results, out / "pretraining.png")
        _draw_pairs(study, results, out / "pairs.png")
        parts += ["![Pretraining share](pretraining.png)", "![Pairs](pairs.png)"]
    parts.append(
        "Every run's configuration, seed, log and what it wrote: `runs.jsonl.gz`, a run a line. BLEU "
        "and the share of texts without an error, for every row and every k: `scores.csv`."
    )
    (out / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    _write_scores(study, results, out / "scores.csv")
    _write_runs(study, out / "runs.jsonl.gz")


def _verdict(claim: Claim) -> str:
    caveat = f" *{claim.caveat}*" if claim.caveat else ""
    return f"- **{claim.verdict}**: {claim.text} ({claim.where})\\\n  {claim.evidence}.{caveat}"


def _world_table(study: Study) -> str:
    world = study.world
    pretraining, downstream = _clips(study.data.pretraining), _clips(study.data.downstream)
    rows = []
    for name, seen in world.experts.items():
        rows.append(["expert", name, ", ".join(seen), "", *_counts(pretraining, seen)])
    for name, languages in world.tasks.items():
        expert = world.matched(name)
        known = f"seen by {expert}" if expert else "seen by none"
        rows.append(["task", name, ", ".join(languages), known, *_counts(downstream, languages)])
    columns = ["", "name", "sign languages", "", *(f"{split} clips" for split in _SPLITS)]
    return tabulate(rows, headers=columns, tablefmt="github")


def _clips(paths: tuple[Path, ...]) -> Counter[tuple[str, str]]:
    return Counter((row.sign_language, row.split) for manifest in read_manifests(paths) for row in manifest.rows)


def _counts(clips: Counter[tuple[str, str]], languages: tuple[str, ...]) -> list[int]:
    return [sum(clips[language, split] for language in languages) for split in _SPLITS]


def _markdown(lines: str) -> str:
    """Write a table of lines with bars; anything else as it is."""
    rows = [line.split(" | ") for line in lines.splitlines()]
    if len(rows[0]) < 2:
        return lines
    return tabulate(rows[1:], headers=rows[0], tablefmt="github", disable_numparse=True)


def _draw_shares(study: Study, results: Results, path: Path) -> None:
    """Figure 5: the error rate over the share of the pretraining data, a line a task."""
    from dataclasses import replace

    figure, axis = _figure()
    for task in study.world.tasks:
        found = [(s, results.get(task, replace(full(study.world, task), share=s))) for s in sorted(study.world.shares)]
        points = [(s, [100 * t.error_rate for t in trials.values()]) for s, trials in found if trials]
        if points:
            shares, rates = zip(*points, strict=True)
            spreads = [np.std(r, ddof=1) if len(r) > 1 else 0.0 for r in rates]
            axis.errorbar(shares, [np.mean(r) for r in rates], spreads, marker="o", capsize=3, label=task)
    axis.set_xlabel("share of the pretraining data, %")
    axis.set_ylabel("characters wrong, %")
    _save(figure, axis, path)


def _draw_pairs(study: Study, results: Results, path: Path) -> None:
    """Figure 4: how often the router takes each pair, a bar a task."""
    figure, axis = _figure()
    shares = {t: pair_shares(study.world, results.get(t, full(study.world, t))) for t in study.world.tasks}
    below = np.zeros(len(shares))
    for pair in next(iter(shares.values())):
        values = np.array([own[pair] for own in shares.values()])
        axis.bar(list(shares), 100 * values, bottom=100 * below, label=" + ".join(pair))
        below += values
    axis.set_ylabel("clips, %")
    _save(figure, axis, path)


def _figure() -> Any:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(6, 3.4), layout="constrained")


def _save(figure: Any, axis: Any, path: Path) -> None:
    from matplotlib import pyplot

    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.figure.legend(loc="outside upper center", ncols=5, fontsize=7, frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _write_scores(study: Study, results: Results, path: Path) -> None:
    """Write a line a task, variant, k and masked expert: each figure's mean over seeds and its standard deviation."""
    names = ["characters wrong, %", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "all right, %"]
    experts = list(study.world.experts)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "variant", "k", "masked", "seeds", *(x for n in names for x in (n, f"{n} ±"))])
        for task, variant, k, masked, trials in results.rows():
            figures = [[100 * t.error_rate, *t.bleu(study.world.tokenize), 100 * t.exact] for t in trials]
            means = np.mean(figures, axis=0)
            spreads = np.std(figures, axis=0, ddof=1) if len(trials) > 1 else np.full(len(names), np.nan)
            cells = [f"{x:.2f}" if np.isfinite(x) else "" for pair in zip(means, spreads, strict=True) for x in pair]
            writer.writerow([task, variant, k, "" if masked is None else experts[masked], len(trials), *cells])


def _write_runs(study: Study, path: Path) -> None:
    """Write a line a run: its configurations and logs by stage, and what it wrote in every trial."""
    with whole_file(path) as temporary, gzip.GzipFile(temporary, "wb", mtime=0) as file:
        for job in study.jobs(study.world.seeds):
            if not job.file.is_file():
                continue
            record = {"run": str(job.file.parent.relative_to(study.out)), **json.loads(job.file.read_text())}
            for log in sorted(job.file.parent.rglob("log.jsonl")):
                stage = log.parent.name if log.parent != job.file.parent else "pretrain"
                config = json.loads((log.parent / "config.json").read_text())
                lines = [json.loads(line) for line in log.read_text().splitlines()]
                record[stage] = {"config": config, "log": lines}
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
