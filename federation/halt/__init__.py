"""The stop that stops: signed orders to halt, who may give them, and what they forbid. No I/O, no clock."""
