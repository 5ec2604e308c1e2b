"""The engine's vocabulary and pure rules: records, states, options, signals, time."""
