"""The GPU engine: Triton kernels, forward and backward, for CUDA and ROCm tensors (docs/explanation/gpu-kernels.md)."""
