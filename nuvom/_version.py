"""The package version, in its own module so that tools can read it without importing Nuvom."""

__version__ = "0.12.0"
