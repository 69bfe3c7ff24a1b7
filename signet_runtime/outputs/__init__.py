"""Translations as text, JSON Lines and subtitles."""
