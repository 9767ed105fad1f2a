"""The laboratory for update rules: what `python -m experiments.update_rules` measures and draws."""
