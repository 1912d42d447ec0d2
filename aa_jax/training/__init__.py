"""Training: what trains, on what objective, on how many devices, and how a run is taken up again."""
