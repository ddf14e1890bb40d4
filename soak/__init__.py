"""A soak: eight processes at work, everything goes wrong around them, and a checker proves it."""
