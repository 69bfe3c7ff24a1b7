"""MediaPipe's holistic solution as a pose estimator."""
