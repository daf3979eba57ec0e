"""Deployments without weights to shift: one serverless endpoint for each model, and a record of which one is live."""
