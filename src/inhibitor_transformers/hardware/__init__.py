"""Attention heads as circuits: generated from Python, mapped to standard cells, measured in area and energy."""
