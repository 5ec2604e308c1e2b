"""A project's settings, the sources of their values, and the location of the project."""
