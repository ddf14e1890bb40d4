"""The DAGs of the floor, and ours beside them."""
