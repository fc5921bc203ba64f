"""What is built on runs; the applications know nothing of one another."""
