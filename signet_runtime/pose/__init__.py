"""From pixels or keypoint files to a `PoseSequence`."""

from signet_runtime.pose.sequence import PoseSequence

__all__ = ["PoseSequence"]
