"""The one error class that people are meant to see."""

EXIT_UNTRUSTED = 3  # ran and wrote its outputs, but the result should not be trusted


class NpsError(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
