"""Tasks of Richter et al. (2024)."""
