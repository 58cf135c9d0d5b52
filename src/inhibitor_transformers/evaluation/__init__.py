"""Measures models: similarity, task scores, throughput, energy; and describes the machine."""
