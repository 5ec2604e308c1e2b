"""``nuvom top``: a project's state in a terminal, and the keys to act on it.

``sources`` reads and changes it, ``tables`` says how it is shown. ``plain`` shows it once, or live
without keys. ``app`` is the whole view, and needs the extra ``nuvom[top]``.
"""
