"""The mask-sc paper's tables and figures."""
