"""The paper's ablations on one's own languages: what `benchmarks.transfer` runs."""
