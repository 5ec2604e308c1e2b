"""The command line. ``cli.py`` is the way in; a file in ``commands/`` is one group of commands."""
