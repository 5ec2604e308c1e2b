"""The web dashboard: ``nuvom dashboard``, or mounted in an application on ASGI.

Needs the extra: ``pip install "nuvom[dashboard]"``.
"""
