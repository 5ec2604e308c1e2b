"""The laws themselves; ``nuvom.testing.conformance`` gives access to the kits."""
