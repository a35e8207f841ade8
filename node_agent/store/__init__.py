"""The lab's own record: a locked, fsynced journal, and files that are whole or absent."""
