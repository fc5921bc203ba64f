"""Classifiers: what is inverted, the catalogue of published ones, their architectures."""
