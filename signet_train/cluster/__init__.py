"""Jobs on several machines, by Dask's `distributed`: an extra, without which everything works on one machine."""

from __future__ import annotations

from signet_runtime.errors import EngineError
from signet_runtime.installation import how_to_install


def require() -> None:
    """See that what the other modules here import is installed.

    Raises:
        EngineError: it is not, and how it is.
    """
    try:
        import dask_jobqueue  # noqa: F401
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise EngineError(
            f"several machines need Dask ({error.name} is missing): {how_to_install('cluster')}"
        ) from error
