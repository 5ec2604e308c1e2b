"""The words of the engine and its pure rules: records, states, options, signals, time."""
