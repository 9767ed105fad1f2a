"""Files that others read: PLY, `.splat`, films, trajectories, point clouds."""
