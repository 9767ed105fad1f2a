"""`eval.py` on captures."""
