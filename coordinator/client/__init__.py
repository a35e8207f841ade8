"""What a research lead, a member's officer and an operator use: the Python SDK and the `concord` command line.

Imports the shared law (``federation``) and nothing of the coordinator's other rooms, so that what a person runs on a laptop
never depends on what the coordinator runs.
"""
