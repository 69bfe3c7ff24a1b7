"""How a demo model reads hands that it has never seen, and words joined unlike those it learned: for `strangers`."""
