"""Losses, optimizer, the training step, checkpoints and the loop around them."""
