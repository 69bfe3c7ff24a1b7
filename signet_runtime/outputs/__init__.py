"""Translations as text, JSON Lines and subtitles: one file a format."""
