"""Errors against length: what `python -m experiments.ttt3r_length` runs, scores and draws."""
