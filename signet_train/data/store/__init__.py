"""The pose store: many clips in one memory-mapped file."""
