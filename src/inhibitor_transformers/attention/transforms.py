"""What surrounds a call: whoever watches, records or transforms torch's operators sees nothing of compiled kernels.

Called directly, a kernel would be left out of what is recorded, or its derivative dropped, without a word. So these
questions come before it. All are cheap: for a short sentence they must not take longer than its attention.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)
_PRE_DISPATCH = torch._C.DispatchKey.PreDispatch  # make_fx(pre_dispatch=True)
_PROXY = torch._C._TorchDispatchModeKey.PROXY


def is_plain(*tensors: Tensor | None) -> bool:
    """Real tensors whose memory holds their numbers, and nobody who watches or transforms operators.

    Where this holds kernels may be called directly, and what a tensor holds may decide what is computed.
    """
    if torch.compiler.is_compiling():
        return False
    for t in tensors:  # before every call: no generator
        if t is not None and (type(t) not in _PLAIN_TYPES or t.is_neg() or t._is_zerotensor()):
            return False
    return (
        torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
        and not torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH)
        and not _have_tangents(*tensors)
    )


def is_recorded() -> bool:
    """Whether operators are recorded, to run again on inputs of other sizes: sizes must not decide which ones run."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._get_dispatch_mode(_PROXY) is not None
        or torch._C._dispatch_tls_is_dispatch_key_included(_PRE_DISPATCH)
    )


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether torch.func is at work, or forward-mode differentiation on one of these."""
    return torch._C._are_functorch_transforms_active() or _have_tangents(*tensors)


def _have_tangents(*tensors: Tensor | None) -> bool:
    """Whether one of these carries a tangent.

    That a level is open says little: torch has one for all threads, and it may be opened between a checkpoint's forward
    pass and the backward pass that repeats it, which must not then choose another engine.
    """
    if forward_ad._current_level < 0:
        return False
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():  # under which nothing can be asked
        return True
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


AUTO = "leave it to engine='auto'"


def refuses(*tensors: Tensor | None) -> str | None:
    """Why compiled kernels cannot serve a call of these here, where plain torch can; None: they can."""
    if _have_tangents(*tensors):
        return f"it has no forward-mode derivatives; {AUTO}"
    if torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active():
            return f"it cannot be compiled under torch.func; {AUTO}"
        if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
            return f"ONNX holds standard operators only; {AUTO}"
        return None
    if torch._C._get_tracing_state() is not None:
        return f"torch.jit.trace records torch's own operators only; {AUTO}"
    if torch._C._are_functorch_transforms_active() and _functionalizes():
        return f"torch.func.functionalize sees torch's own operators only; {AUTO}"
    return None


def _functionalizes() -> bool:
    functionalize = torch._C._functorch.TransformType.Functionalize
    return any(level.key() == functionalize for level in torch._C._functorch.get_interpreter_stack() or [])


def size(t: Tensor, dim: int) -> Tensor | int:
    """t.shape[dim]; where torch.jit.trace records, a number in the dtype of t that follows the size of later inputs."""
    return t.new_ones(t.shape[dim]).sum() if torch.jit.is_tracing() else t.shape[dim]


def operation(function: Callable[P, R]) -> Callable[P, R]:
    """For a public function of tensors, the first of which is `query`.

    What stands for a tensor (torch.fx's Proxy) records the call as a whole. torch.jit.trace warns wherever Python reads
    a size; here sizes are only checked, and it need not.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        query = args[0] if args else kwargs.get("query")
        if not isinstance(query, Tensor) and has_torch_function((query,)):
            recorded: R = handle_torch_function(called, (query,), *args, **kwargs)
            return recorded
        if not torch.jit.is_tracing():
            return function(*args, **kwargs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            return function(*args, **kwargs)

    return called


def constant_when_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """`torch.compiler.assume_constant_result`, which imports the compiler, and that takes as long as all of torch."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
