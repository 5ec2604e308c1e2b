"""Plugins that come with Nuvom and need a library of their own, and its parts for web frameworks.

Plugins use only the contracts that are open to every plugin.
"""
