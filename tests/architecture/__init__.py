"""The rules of the house as code: each module finds breaches of a few of them in a source tree.

``tests/test_architecture.py`` applies them to this project; the tests here apply them to small
bad trees, so that a rule that finds nothing is known to be kept and not merely blind.
"""
