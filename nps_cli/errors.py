"""The one error class that people are meant to see."""


class NpsError(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
