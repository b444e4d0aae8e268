"""The command line: people in, files out."""

__version__ = "0.1.0"
