"""Orders to halt at the coordinator: taken, kept and logged, told first of all, and answered for by each node."""
