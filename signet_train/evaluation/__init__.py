"""How good a text is: metrics, and the files of predictions that they are computed from."""
