"""ONNX Runtime's operator inhibitor::InhibitorAttention, which runs exported models at the speed of the CPU kernels.

    options = onnxruntime.SessionOptions()
    register(options)
    session = onnxruntime.InferenceSession("exported/model.onnx", options)

Neither this module nor the operator needs torch or transformers. From another language, or without this package, give
`shared_library()`, or a copy of that file, to RegisterCustomOpsLibrary. csrc/runtimes/attention.h says what
inputs and attributes the operator has; it computes in float32 on the processor, with the threads of the session.

Runs in ONNX Runtime 1.17 and newer; tried in 1.17.3, 1.18.1, 1.20.1, 1.24.1 and 1.32.0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_MODULE = "inhibitor_transformers.attention._cpu_kernels"


def shared_library() -> Path:
    """The shared library. Raises RuntimeError if the package was installed without."""
    # As the engine finds it (attention/cpu), but without the import of the package around it, which loads torch.
    folder = str(Path(__file__).parents[2] / "attention")
    for finder in sys.meta_path:
        spec = finder.find_spec(_MODULE, [folder])
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise RuntimeError("the package was installed without compiled kernels (no C++17 compiler at install time)")


def register(options: Any) -> None:
    """Make the operator known to the sessions that are created with these `onnxruntime.SessionOptions`.

    Raises RuntimeError if the package was installed without kernels, and what ONNX Runtime raises if it is too old.
    """
    options.register_custom_ops_library(str(shared_library()))
