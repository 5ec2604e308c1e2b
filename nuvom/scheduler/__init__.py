"""Schedules: rules that enqueue jobs at fire times."""
