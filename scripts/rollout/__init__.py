"""Blue to green in small steps, and back by itself. `decide` is pure; `run` does what it decided."""
