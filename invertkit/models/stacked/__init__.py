"""Networks of one form side by side in one module, for networks that learn one photograph."""
