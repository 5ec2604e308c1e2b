"""Other engines' interfaces on Nuvom, for projects that move to it."""
