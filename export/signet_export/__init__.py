"""A trained SIGNET in, one verified bundle out."""
