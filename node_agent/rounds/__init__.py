"""Drives the member's machine, one task per job: what the machine must remember is on disk before anything after it is done."""
