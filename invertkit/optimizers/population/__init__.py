"""Searches with many points for each image: CMA-ES, ours and pycma's, and BasinCMA."""
