"""The registry of tasks: maps task names to functions."""
