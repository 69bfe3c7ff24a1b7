"""The commands of signet-train, one group a file."""
