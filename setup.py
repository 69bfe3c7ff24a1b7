"""Say which Python is missing before pip looks for packages that there are none of: the rest is in pyproject.toml."""

import sys

from setuptools import setup

LOWEST, HIGHEST = (3, 11), (3, 14)  # as requires-python in pyproject.toml

if not LOWEST <= sys.version_info[:2] <= HIGHEST:
    sys.exit(
        "signet-slt needs Python {}.{} to {}.{}, and this is {}.{}: make the environment with one of these, "
        "as python3.12 -m venv .venv".format(*LOWEST, *HIGHEST, *sys.version_info[:2])
    )
setup()
