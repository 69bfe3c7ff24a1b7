"""What can go wrong, each with the exit code that the command line returns."""


class SignetError(Exception):
    """One line for the user: what, where, and what to do about it."""

    exit_code = 1


class InputError(SignetError):
    """The input cannot be used: not a video, damaged, empty, or without a signer."""

    exit_code = 3


class BundleError(SignetError):
    """A bundle or checkpoint is missing, damaged, or of an unknown kind."""

    exit_code = 4


class EngineError(SignetError):
    """An engine, execution provider or pose estimator that was asked for is not available."""

    exit_code = 5
