"""Finds a project's tasks without importing them, and keeps the list of them.

``scan`` finds tasks, ``manifest`` stores and compares the list, ``explain`` says why something
was not found, and ``auto_register`` imports what a worker needs. Import from those modules.
"""
