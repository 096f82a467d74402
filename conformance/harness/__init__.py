"""What the tests share: a server process, clients for it, and what may never be found on disk."""
