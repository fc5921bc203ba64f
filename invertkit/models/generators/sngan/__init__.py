"""SNGAN with projection discriminator, as Neural Collage has it: networks and published files."""
