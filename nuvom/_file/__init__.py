"""What the file queue and the file results share: a log of everything that happens to jobs.

``frames`` is the form of an entry, ``log`` the files they are appended to, ``rows`` what the
entries say, ``table`` what they amount to, ``store`` one process's use of all that.
"""
