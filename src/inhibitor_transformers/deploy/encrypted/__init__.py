"""Encrypted inference: integer graphs that a server can evaluate on ciphertexts, and their clear evaluation."""
