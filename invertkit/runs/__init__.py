"""Runs: prepare, carry out, resume, result; what a notebook calls."""
