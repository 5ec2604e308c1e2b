"""The version of the package, kept apart so that tools can read it without importing Nuvom."""

__version__ = "0.12.0"
