"""Translations as files: JSON Lines and subtitles, written whole or not at all."""
