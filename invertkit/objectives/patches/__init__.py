"""Objectives on patches: nearest, sliced, and matched ones."""
