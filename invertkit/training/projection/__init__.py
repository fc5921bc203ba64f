"""Training of what a projection begins with and searches in: encoders, and auxiliary spaces."""
