"""`NpsError`, the one error that people are meant to see."""

EXIT_IMPOSSIBLE, EXIT_USAGE = 1, 2
EXIT_UNTRUSTED = 3  # ran and wrote its outputs, but the result should not be trusted


class NpsError(Exception):
    """An error that a person can fix: a message with what went wrong, and a hint what to do."""

    exit_code = EXIT_IMPOSSIBLE

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(NpsError):
    """An `NpsError` in the command line itself, whatever the inputs are."""

    exit_code = EXIT_USAGE
