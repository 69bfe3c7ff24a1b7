"""MediaPipe Holistic, rebuilt around its own models in LiteRT."""
