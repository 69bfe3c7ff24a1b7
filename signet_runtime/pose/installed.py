"""What to say of a pose library that is installed and yet cannot be imported."""

from __future__ import annotations

from signet_runtime.errors import first_line


def missing_library(error: ImportError) -> str:
    """Return one line on an import that fails although the package is there."""
    if "libGL" in str(error):
        return "OpenCV needs libGL: install it (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)"
    return f"a pose library cannot be loaded: {first_line(error)}"
