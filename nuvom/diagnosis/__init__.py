"""Checks a project's whole set-up: ``doctor.diagnose`` runs them, ``nuvom doctor`` shows them."""
