"""Photographs for trainings: files, batches, streams."""
