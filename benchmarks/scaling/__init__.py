"""The sections of `benchmarks.scale`."""
