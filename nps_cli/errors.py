"""`NpsError`, the one error that people are meant to see."""

EXIT_UNTRUSTED = 3  # ran and wrote its outputs, but the result should not be trusted


class NpsError(Exception):
    """An error that a person can fix: a message with what went wrong, and a hint what to do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
