"""Measurements and the facts they depend on; imports attention, nothing above."""
