"""What a job and a rollout cost: a price table with dates and sources, estimates from measured runs, and a cap."""
