"""Nuvom's own limits."""

MEASURES = {}
