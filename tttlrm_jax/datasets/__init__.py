"""From scenes to batches: sources, shards, their preparation, augmentation."""
