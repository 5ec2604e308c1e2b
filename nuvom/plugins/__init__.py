"""Plugins: packages and project modules that add backends, exporters and subscribers.

Authors write against ``contracts`` and ``registry``; ``loader`` finds and imports plugins,
``lifecycle`` starts and stops them. Nothing is loaded by importing this package.
"""
