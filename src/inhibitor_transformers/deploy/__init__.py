"""Models as they are used: quantised, and exported to run without this package."""
