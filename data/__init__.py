"""What do we train on, and may we? Sample data, loading, checks, split and manifest."""
