"""The SQLite store: schema, connections, transactions and checkpoints of one database file.

Shared by the SQLite queue and the SQLite results, which know no other way to the file.
"""
