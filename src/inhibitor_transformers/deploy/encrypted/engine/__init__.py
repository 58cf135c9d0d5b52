"""The engine: Concrete compiles a plan, makes keys, encrypts, computes on ciphertexts, decrypts.

It runs in an environment of its own (`make encrypted`), since concrete-python needs numpy 1. Nothing outside this
package imports it.
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec

VERSION = "2.11.0"
# The chance that anything at all goes wrong in one example. Concrete divides it among the bootstraps.
GLOBAL_P_ERROR = 1e-3
LICENSE_NOTICE = (
    "concrete-python is licensed under BSD-3-Clause-Clear, which grants no patent rights: Zama allows it for research "
    "and prototyping; commercial use needs their license (https://github.com/zama-ai/concrete#license)."
)


def require_engine() -> None:
    """Raise ValueError, saying what to do, where concrete-python is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, by Concrete's own import
        installed = find_spec("concrete") is not None and find_spec("concrete.fhe") is not None
    if not installed:
        raise ValueError(
            f"this needs concrete-python {VERSION}, which has an environment of its own: run make encrypted, then "
            f"build/encrypted/bin/inhibit {' '.join(sys.argv[1:3])} …"
        )
