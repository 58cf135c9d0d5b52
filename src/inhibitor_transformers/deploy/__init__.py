"""Deploys models: quantized, or exported to run without this package."""
