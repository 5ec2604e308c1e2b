"""The tour: tasks that show what Nuvom does, run by ``nuvom demo``."""
