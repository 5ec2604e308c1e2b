"""The implementation of ``nuvom.log``: the handler, the formats, and the event lines."""
