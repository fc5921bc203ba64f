"""Recipes: YAML pages, checked, and the problems they describe."""
