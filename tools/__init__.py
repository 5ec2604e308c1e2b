"""What ``dev.py`` does, in the standard library alone; not part of the package."""
