"""Models as they are used: quantized, and exported to run without this package."""
