"""The CPU engine: C++ kernels behind a C interface (docs/cpu-engine.md)."""
