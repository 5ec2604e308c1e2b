"""The command line. ``cli.py`` is the way in; each file in ``commands/`` is one group of commands."""
