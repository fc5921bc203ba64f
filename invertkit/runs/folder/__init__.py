"""The folder of a run: pictures, report, index."""
