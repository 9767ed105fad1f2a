"""Losses, optimizer, the training step and the trainer around it."""
