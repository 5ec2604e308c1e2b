"""A small web shop's background work."""
