"""Keypoints as they come, cut into sentences."""
