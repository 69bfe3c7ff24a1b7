"""A video with what was seen in it, and what was read: for people to look at."""
