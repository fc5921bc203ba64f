"""Objectives: what is wanted, one number per image."""
