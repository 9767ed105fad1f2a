"""What the commands do: parts wired together, no maths."""
