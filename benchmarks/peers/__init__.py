"""One file for each peer: its application, as its worker imports it, and its ``Adapter``."""
