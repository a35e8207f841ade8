"""The node's own stop: orders on its disk, its lease, and the end of every process that trains."""
