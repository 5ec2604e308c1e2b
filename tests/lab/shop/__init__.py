"""A small project with eight mistakes of the kind that tests of tasks must find.

The same tests (``checks.py``) run on ``mistaken.py``, where each fails, and on ``corrected.py``.
The eighth mistake is in a test: ``bare.py``.
"""
