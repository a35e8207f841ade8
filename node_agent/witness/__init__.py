"""This node as a witness of the public log: what it saw last, on disk; what does not continue it stops the node."""
