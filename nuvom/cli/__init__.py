"""The command line. ``cli.py`` is the entry point; each file in ``commands/`` is one group."""
