"""Weights as data: files read without running code, downloads, layouts of keys, checks."""
