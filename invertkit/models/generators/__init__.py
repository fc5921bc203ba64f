"""Generators and encoders: where a latent becomes an image, and back."""
