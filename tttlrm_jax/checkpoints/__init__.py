"""What lies on disk: runs, models, streams."""
