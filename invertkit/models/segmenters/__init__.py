"""Networks that tell an object from its surroundings."""
