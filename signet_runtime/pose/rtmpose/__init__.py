"""RTMPose, through rtmlib, as a pose estimator."""
