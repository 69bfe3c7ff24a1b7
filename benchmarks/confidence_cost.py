"""What it costs to say how sure a text is, and where its pieces were read, as shares of decoding.

    python -m benchmarks.confidence_cost                          the demo's words, one at a time, 4 beams
    python -m benchmarks.confidence_cost --before ../older        against a checkout that does not keep scores
    python -m benchmarks.confidence_cost --markdown benchmarks/results/confidence-cost.md

Decoding is the search alone, without encoder and pose: of a sentence the least, so that the shares are the largest. The
log-probabilities are kept by the search itself; what that costs only a search that keeps none can show, which is
that of a checkout of before (`--before`, for example commit d88f61d). All ways are timed in turns, in one process each.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np

from benchmarks.measuring.report import Table, header
from signet_runtime.files import whole_file
from signet_runtime.generation.hypothesis import Hypothesis
from signet_runtime.reading import looked_at

# What runs in a checkout of before, or in this one: encoder states come in a file, times go out.
_WORKER = """
import sys, time
import numpy as np
from signet_runtime.bundle import Bundle
from signet_runtime.engines.encoder import HostEncoded
from signet_runtime.engines.load import load_engine
path, bundle, beams = sys.argv[1:]
with np.load(path) as stored:
    clips = [HostEncoded(*(stored[f"{i}.{j}"] for j in range(3))) for i in range(len(stored) // 3)]
decoder = load_engine(Bundle.load(bundle), "onnx").decoder
for _ in sys.stdin:
    since = time.perf_counter()
    for clip in clips:
        decoder.generate(clip, int(beams))
    print(time.perf_counter() - since, flush=True)
"""


@click.command()
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="[default: the demo]")
@click.option("--before", type=click.Path(exists=True, path_type=Path), help="A checkout whose search keeps no scores.")
@click.option("--words", default=40, show_default=True)
@click.option("--beams", default=4, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--markdown", type=click.Path(path_type=Path), help="Also write the report there.")
def main(bundle: Path | None, before: Path | None, words: int, beams: int, rounds: int, markdown: Path | None) -> None:
    """Print the table; exit with 1 when a limit is missed."""
    import tempfile

    from signet_runtime.bundle import Bundle
    from signet_runtime.confidence.calibration import read_calibration
    from signet_runtime.engines.load import load_engine
    from signet_runtime.regions import prepare
    from signet_train.data.spelled.clips import Pace, spell
    from signet_train.data.spelled.clips import words as listed

    loaded = Bundle.load(bundle)
    encoder, decoder, _ = load_engine(loaded, "onnx")
    reliability = read_calibration(loaded)
    if reliability is None or not decoder.gives_attention:
        raise click.ClickException("this bundle has no calibration, or does not say what it looks at; export it again")
    chosen = listed("ase", split="test", max_letters=6)[:words]
    regions = [prepare(spell(word, "ase", Pace()), loaded.manifest) for word in chosen]
    encoded = [encoder([clip]) for clip in regions]

    def search(attention: bool) -> list[Hypothesis]:
        return [decoder.search(clip, beams, attention=attention)[0][0] for clip in encoded]

    texts = search(True)
    ways: dict[str, Callable[[], object]] = {
        "search": lambda: search(False),
        "reliability": lambda: [
            reliability(text, clip.routing_weights[0], read)
            for text, clip, read in zip(texts, encoded, regions, strict=True)
        ],
        "search with attention": lambda: search(True),
        "piece times": lambda: [looked_at(text.attention) for text in texts if text.attention is not None],
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, "before", "now")}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arrays = {
            f"{i}.{j}": np.asarray(value)
            for i, clip in enumerate(encoded)
            for j, value in enumerate((clip.hidden_states, clip.attention_mask, clip.routing_weights))
        }
        np.savez(directory / "encoded.npz", **arrays)  # type: ignore[arg-type]
        workers = {}
        if before is not None:
            here = Path(__file__).parents[1]
            for name, checkout in (("before", before), ("now", here)):
                command = [sys.executable, "-c", _WORKER, str(directory / "encoded.npz"), str(loaded.path), str(beams)]
                environment = {"PYTHONPATH": str(checkout.resolve()), "PATH": ""}
                process = subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                workers[name] = stack.enter_context(process)
        for number in range(rounds + 2):
            for name, way in ways.items():
                since = time.perf_counter()
                way()
                if number > 1:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - since)
            for name, worker in workers.items():
                assert worker.stdin is not None and worker.stdout is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
                took = float(worker.stdout.readline())
                if number > 1:
                    seconds[name].append(took)

    def share(of: str, base: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[of], seconds[base], strict=True))

    table = Table(
        "cost", f"{len(encoded)} words, {beams} beams, medians of {rounds} rounds", ["what", "ms a word", "share"]
    )

    def row(what: str, name: str, shown: str) -> None:
        table.rows.append((what, f"{1000 * statistics.median(seconds[name]) / len(encoded):.3f}", shown))

    row("decoding, scores kept", "search", "1")
    row("the reliability of a text", "reliability", f"{share('reliability', 'search'):.1%}")
    scores = 0.0
    if before is not None:
        scores = share("now", "before") - 1
        row("decoding before scores were kept", "before", f"now {scores:+.1%}")
    attention = share("search with attention", "search") - 1 + share("piece times", "search")
    row("decoding with attention", "search with attention", f"{share('search with attention', 'search') - 1:+.1%}")
    row("piece times of it", "piece times", f"{share('piece times', 'search'):.1%}")
    confidence = share("reliability", "search") + max(0.0, scores)
    table.notes.append(f"confidence in all {confidence:.1%} of decoding, piece times in all {attention:.1%}")
    text = f"{table.markdown()}\n"
    click.echo(text)
    if markdown is not None:
        with whole_file(markdown) as temporary:
            temporary.write_text(
                f"# What confidence costs\n\n`python -m benchmarks.confidence_cost`; {header()}\n\n{text}"
            )
    raise SystemExit(0 if confidence <= 0.02 and attention <= 0.1 else 1)


if __name__ == "__main__":
    main()
