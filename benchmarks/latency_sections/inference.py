"""One clip through every engine that is here: the encoder by engine and k, the decoder by engine and search width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.latency_sections.engines import TOP_K, Engine, K, Subject, Tell, absent, loaded_engines
from benchmarks.measuring.report import Report, Table, Timing
from benchmarks.measuring.timing import Way, in_turns

BEAMS = (1, 4)


def encoders_and_decoders(
    report: Report, subjects: Sequence[Subject], device: torch.device, *, rounds: int, compiled: bool, tell: Tell
) -> None:
    """Both tables; the demo, which takes milliseconds, is run five times as often.

    Args:
        compiled: with torch.compile, which takes a minute to compile.
    """
    encoder = report.table(
        "encoder", "Encoder, one clip, ms", "model", "engine", *(f"k = {k}" for k in TOP_K), "memory"
    )
    decoder = report.table(
        "decoder",
        "Decoder, one clip, ms",
        "model",
        "engine",
        "search",
        "beams",
        "tokens",
        "first token",
        "a further token",
        "all",
        "memory",
    )
    encoder.notes.append(
        f"Experts, adapters, router and mT5 encoder; median of {rounds} rounds in turns (five times as many for the "
        f"demo), least and most in brackets. PyTorch computes all experts, whatever k."
    )
    if not compiled:
        encoder.notes.append("Left out by --quick: torch.compile, which takes a minute to compile the encoder.")
    for subject in subjects:
        tell(f"{subject.name}: exporting its encoder for every k, loading its engines")
        frames = len(subject.regions()["body"])
        encoder.notes.append(f"{subject.name}: {frames} frames.")
        often = rounds * 5 if subject.name == "demo" else rounds
        with loaded_engines(subject, device, compiled) as engines:
            _encode(encoder, subject, engines, device, often, tell)
            _decode(decoder, subject, engines, device, often, tell)
    encoder.notes += [f"{name} was not measured: {reason}." for name, reason in absent(device).items()]
    decoder.notes.append("All: the whole search, to the end of the sentence. Tokens: written, without the end mark.")


def _encode(
    table: Table, subject: Subject, engines: Sequence[Engine], device: torch.device, rounds: int, tell: Tell
) -> None:
    ways: list[Way] = []
    for engine in engines:
        by_k = {k: Way(f"{engine.name}, k {k}", run, engine.encoder_bytes) for k, run in engine.encode.items()}
        timings = [by_k[k].timing if k in by_k else "as k = 2" for k in TOP_K]
        table.rows.append([subject.name, engine.name, *timings, by_k[K].memory])
        ways += by_k.values()
    in_turns(ways, rounds, device, lambda line: tell(f"encoder, {subject.name}: {line}"))


def _decode(
    table: Table, subject: Subject, engines: Sequence[Engine], device: torch.device, rounds: int, tell: Tell
) -> None:
    limit = subject.bundle.manifest.generation.max_new_tokens
    for beams in BEAMS:
        ways: list[Way] = []
        written = set()
        for engine, search, generate in ((e, *item) for e in engines for item in e.generate.items()):
            tokens = generate(beams, limit)[0]
            written.add(tuple(tokens))
            name = f"{engine.name}, {search}"
            first = Way(f"{name}, first token", partial(generate, beams, 1), engine.decoder_bytes)
            whole = Way(f"{name}, all tokens", partial(generate, beams, limit), engine.decoder_bytes)
            further = Further(first.timing, whole.timing, len(tokens))
            table.rows.append(
                [
                    subject.name,
                    engine.name,
                    search,
                    beams,
                    len(tokens),
                    first.timing,
                    further,
                    whole.timing,
                    whole.memory,
                ]
            )
            ways += [first, whole]
        if len(written) > 1:
            table.notes.append(f"{subject.name}, {beams} beams: the engines wrote different tokens.")
        in_turns(ways, rounds, device, partial(_tell_decoding, tell, subject.name, beams))


def _tell_decoding(tell: Tell, name: str, beams: int, line: str) -> None:
    tell(f"decoder, {name}, {beams} beams: {line}")


@dataclass(frozen=True)
class Further:
    """What each token after the first takes: the rest of the whole search, spread evenly."""

    first: Timing
    whole: Timing
    tokens: int

    @property
    def value(self) -> float | None:
        """Seconds; None where nothing was measured, or there is one token."""
        if not self.first.seconds or not self.whole.seconds or self.tokens < 2:
            return None
        return (self.whole.median - self.first.median) / (self.tokens - 1)

    def __str__(self) -> str:
        return "" if self.value is None else f"{1000 * self.value:.1f}"

    def as_json(self) -> object:
        return self.value
