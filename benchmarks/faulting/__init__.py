"""What `benchmarks.faults` does to commands, and what it looks at afterwards."""
