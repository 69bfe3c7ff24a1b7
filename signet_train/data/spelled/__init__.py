"""The demonstration's corpus: words spelled by real signers' letter clips."""
