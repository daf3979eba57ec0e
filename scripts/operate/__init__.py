"""Day 2: when to train again, and what to clear away. `retrain` and `reap` decide, purely; the rest reads and does."""
