"""What each kind of run minimises and renders, by kind and plan."""
