"""What the commands do: parts wired together, no maths. Level 8: imports anything below."""
