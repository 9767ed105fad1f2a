"""`eval.py --model ttt3r` on sequences."""
