"""Plugins that come with Nuvom and need a library of their own; each is an extra.

They use the contracts that every plugin can use, and nothing more.
"""
