"""The tests; a regular package, so that no other installed ``tests`` can take its place."""
