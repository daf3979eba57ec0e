"""What we ask of Azure: one command per workflow step (`python -m scripts COMMAND`)."""
