"""MediaPipe's own holistic solution, in a Python of its own: frames on standard input, landmarks on standard output.

    PYTHON holistic_solution.py        of an environment with mediapipe 0.10.21, and nothing of this project

Both ways pickled, one frame's after the other's, by programs that trust each other.
"""

import os
import pickle
import sys


def main() -> None:
    """Answer every frame, a shape (H, W, 3) and bytes of RGB, and None with a new beginning, until the input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # MediaPipe prints
    import numpy as np
    from mediapipe.python.solutions.holistic import Holistic

    holistic = Holistic(model_complexity=1, refine_face_landmarks=True)
    while True:
        try:
            frame = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = None
        if frame is None:
            holistic.reset()
        else:
            shape, colours = frame
            found = holistic.process(np.frombuffer(colours, np.uint8).reshape(shape))
            parts = (found.pose_landmarks, found.face_landmarks, found.left_hand_landmarks, found.right_hand_landmarks)
            answer = [p and [(q.x, q.y, q.visibility) for q in p.landmark] for p in parts]
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
