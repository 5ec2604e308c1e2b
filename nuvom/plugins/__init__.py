"""Plugins: packages and project modules that add backends, exporters and subscribers.

Plugin authors use ``contracts`` and ``registry``. ``loader`` finds and imports plugins, and
``lifecycle`` starts and stops them. Importing this package loads nothing.
"""
