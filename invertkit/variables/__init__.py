"""Variables: what is optimised, and how it becomes an image."""
