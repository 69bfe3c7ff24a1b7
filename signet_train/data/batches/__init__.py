"""From rows of a manifest to batches of a step."""
