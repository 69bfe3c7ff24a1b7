"""The sections of `benchmarks.latency`'s report, and what they time."""
