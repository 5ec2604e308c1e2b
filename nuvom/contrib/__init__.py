"""Plugins that come with Nuvom and need a library of their own; each is an extra.

They use only the contracts that are open to every plugin.
"""
