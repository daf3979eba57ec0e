"""What runs on the A100? Uploaded as a code snapshot, so this folder needs nothing of ours outside itself."""
