"""The kinds of training run, each with the same four parts."""
