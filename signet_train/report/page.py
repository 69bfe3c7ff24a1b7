"""A run's directory -> its report.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signet_runtime.boundary import parse_json, read_json, read_text, reading
from signet_runtime.errors import InputError
from signet_runtime.files import whole_file
from signet_train.evaluation.predictions import Prediction, read_predictions
from signet_train.report.curves import curves

# What a validation says, by its name in the log.
_FIGURES = {
    "bleu4": "BLEU-4",
    "cer": "characters wrong, %",
    "per_instance": "right, % of instances",
    "per_class": "right, % of classes",
    "info_nce": "validation InfoNCE",
    "temperature": "temperature of Eq. 9",
}
_MOST_CLASSES = 24  # of a confusion that is shown as a square; of more, the pairs that are mixed up most
_PAIRS = 30


def write_page(run: Path) -> Path:
    """Write ``RUN/report.html``: curves, samples, routing, confusion of glosses, configuration, cost.

    The page has all it shows in itself, and loads itself again every ten seconds until the run is finished.

    Raises:
        InputError: there is no run, or its log is damaged.
        OutputError: the page cannot be written.
    """
    import jinja2  # PyTorch's own dependency

    description, log = _read(run)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    with reading(run, InputError, "a run, whose run.json and log.jsonl are read"):
        page = environment.get_template("page.html").render(**_contents(run, description, log))
    with whole_file(run / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run / "report.html"


def _read(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if not (run / "run.json").is_file():
        raise InputError(f"{run}: no run.json in it: give the directory of a run, as --out named it")
    description, log = read_json(run / "run.json", "settings_bytes"), run / "log.jsonl"
    text = read_text(log, "json_bytes") if log.exists() else ""
    # A line that a killed run did not finish is no fault.
    return description, [parse_json(line, log) for line in text.split("\n") if line.endswith("}")]


def _contents(run: Path, description: dict[str, Any], log: list[dict[str, Any]]) -> dict[str, Any]:
    config, metric = description["config"], description["metric"]
    validations = [row for row in log if metric in row]
    losses = {"training": _line(log, "loss"), "validation": _line(log, "validation_loss")}
    pictures = [curves("loss", losses)]
    pictures += [curves(title, {"": _line(log, name)}) for name, title in _FIGURES.items()]
    pictures.append(curves("learning rate", {"": _line(log, "lr")}))
    done = max((row["step"] for row in log), default=0)
    seconds = max((row.get("seconds", 0) for row in log), default=0)
    lowest = metric == "info_nce"
    # Of equal ones the last, as the checkpoint that is kept.
    best = max(validations, key=lambda row: (-row[metric] if lowest else row[metric], row["step"]), default=None)
    last = validations[-1] if validations else {}
    predictions = _predictions(run)
    return {
        "name": run.resolve().name,
        "config": config,
        "description": description,
        "finished": done >= description["steps"] and bool(validations) and last["step"] == done,
        "done": done,
        "seconds": seconds,
        "left": seconds / done * (description["steps"] - done) if done else None,
        "best": None if best is None else (metric, best[metric], best["step"]),
        "validations": validations,
        "pictures": [picture for picture in pictures if picture],
        "samples": last.get("samples", []),
        "before": {sample["id"]: sample for sample in validations[0].get("samples", [])} if validations else {},
        "routing": last.get("routing", {}),
        "confusion": _confusion(predictions) if config["task"] == "recognise" else None,
        "changes": [row for row in log if "changed" in row],
        "settings": sorted(_flat(config)),
    }


def _line(log: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in log if name in row]


def _predictions(run: Path) -> list[Prediction]:
    file = run / "validation.jsonl"
    return read_predictions(file) if file.is_file() else []


def _confusion(predictions: Sequence[Prediction]) -> dict[str, Any] | None:
    """Return a square of counts where glosses are few, else what is mixed up most often."""
    if not predictions:
        return None
    counts = Counter((p.reference, p.hypothesis) for p in predictions)
    names = sorted({name for pair in counts for name in pair})
    wrong = [(pair, count) for pair, count in counts.most_common() if pair[0] != pair[1]]
    square = [[counts.get((row, column), 0) for column in names] for row in names]
    return {
        "names": names if len(names) <= _MOST_CLASSES else None,
        "square": square,
        "most": max(counts.values()),
        "pairs": wrong[:_PAIRS],
    }


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
