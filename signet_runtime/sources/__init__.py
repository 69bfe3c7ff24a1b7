"""Where pictures come from: a video, a directory of frames, a camera or stream."""
