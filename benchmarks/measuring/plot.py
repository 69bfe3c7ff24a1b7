"""The medians of a report as bars, a panel a table."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from benchmarks.measuring.report import Report, Table, Timing

# Of a table: the timings that are drawn, and what names them.
_PANELS = {
    "latency": ("forward, ms", ("method", "precision")),
    "encoder": ("k = 2", ("model", "engine")),
    "decoder": ("all", ("model", "engine", "search", "beams")),
    "video": ("all", ("video", "way")),
    "last_frame": ("last frame to text", ("video", "comes as")),
    "decoder_alone": ("all", ("vocabulary", "decoder")),
    "start": ("from start to end", ("command",)),
}
_OURS, _OTHERS = "#3b6ea5", "#b8b8b8"
_NOT_OURS = ("Uni-Sign", "Geo-Sign", "published way", "CTranslate2", "transformers")


def draw(report: Report, path: Path) -> None:
    """Write a picture of the tables of `_PANELS` that were measured; ours and what others made in two colours."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = [(table, _bars(table)) for table in report.tables if table.name in _PANELS]
    panels = [(table, bars) for table, bars in panels if bars]
    heights = [len(bars) + 2 for _, bars in panels] or [1]
    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(9, 0.32 * sum(heights) + 0.6),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, (table, bars) in zip(axes[:, 0], panels, strict=False):
        _panel(axis, table.title, bars)
    figure.suptitle(textwrap.fill(report.machine_line(), 150), fontsize=7)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _bars(table: Table) -> list[tuple[str, Timing]]:
    value, names = _PANELS[table.name]
    columns = list(table.columns)
    bars = []
    for row in table.rows:
        timing = row[columns.index(value)]
        if isinstance(timing, Timing) and timing.seconds:
            bars.append((", ".join(str(row[columns.index(name)]) for name in names), timing))
    return bars


def _panel(axis: Any, title: str, bars: list[tuple[str, Timing]]) -> None:
    names, timings = zip(*bars, strict=True)
    medians = [1000 * timing.median for timing in timings]
    spread = [
        [1000 * (timing.median - min(timing.seconds)) for timing in timings],
        [1000 * (max(timing.seconds) - timing.median) for timing in timings],
    ]
    colours = [_OTHERS if any(other in name for other in _NOT_OURS) else _OURS for name in names]
    axis.barh(range(len(names)), medians, xerr=spread, color=colours, height=0.7, error_kw={"lw": 0.8})
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_title(title + (" (ms)" if "ms" not in title else ""), fontsize=8, loc="left")
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
