"""Pictures, masks and depth maps of a capture: where they lie, and their pixels."""
