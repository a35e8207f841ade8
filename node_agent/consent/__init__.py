"""What this lab takes part in: its own policy, its own signature, its own record. Nothing here is taken from the coordinator."""
