"""What a trained model becomes before it is served on a CPU. Imports nothing of ours."""
