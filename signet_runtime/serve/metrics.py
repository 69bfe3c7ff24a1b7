"""Counters for Prometheus, each server's own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from signet_runtime.serve.lanes import Lanes
from signet_runtime.serve.shelf import Shelf

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # a second series for every counter, which nobody reads


@dataclass
class Outcome:
    """How a translation ended: done, cancelled, or a problem's code."""

    code: str = "failed"


class Metrics:
    """What a server has done and does.

    Args:
        lanes, shelf: whose state is read when somebody asks.
    """

    def __init__(self, lanes: Lanes, shelf: Shelf) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("signet_requests", "Answered requests", ["route", "status"], registry=registry)
        self.uploaded = Counter("signet_uploaded_bytes", "Bytes of recordings that came whole", registry=registry)
        self.sentences = Counter("signet_sentences", "Sentences that were given", registry=registry)
        self.frames = Counter(
            "signet_live_frames", "Pictures and keypoints of live streams that came", registry=registry
        )
        self.dropped = Counter("signet_live_frames_dropped", "Pictures of them that were left out", registry=registry)
        self._translations = Counter(
            "signet_translations", "Translations that were begun, by how they ended", ["outcome"], registry=registry
        )
        self._seconds = Histogram(
            "signet_translation_seconds", "Time of a translation in its lane", buckets=_SECONDS, registry=registry
        )
        for name, text, of in (
            ("signet_translations_running", "Translations at work", lambda: lanes.running),
            ("signet_translations_waiting", "Requests that upload, or wait for a lane", lambda: lanes.waiting),
            ("signet_models_loaded", "Models in memory", shelf.loaded),
        ):
            Gauge(name, text, registry=registry).set_function(of)

    @contextlib.contextmanager
    def translation(self) -> Iterator[Outcome]:
        """Measure a translation; the block sets how it ended."""
        outcome, since = Outcome(), time.perf_counter()
        try:
            yield outcome
        finally:
            self._seconds.observe(time.perf_counter() - since)
            self._translations.labels(outcome.code).inc()

    def shown(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)
