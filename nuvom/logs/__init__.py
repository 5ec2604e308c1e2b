"""What stands behind ``nuvom.log``: the handler, the formats, the lines of events."""
