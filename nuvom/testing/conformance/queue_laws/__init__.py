"""The laws of queues, one chapter to a module."""
