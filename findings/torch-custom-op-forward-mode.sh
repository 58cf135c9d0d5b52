#!/usr/bin/env bash
# torch 2.13.0: an operator of one's own (custom_op with register_autograd) has right gradients, but
# torch.func.jvp through it gives a tangent of zeros without a word, and forward_ad gives none. torch.func.grad fails with
# an error that asks for the very setup_context that was given.
# Guess before it was run: jvp raises "no formula for forward mode", func.grad works.
# For users of inhibitor attention: engine "auto" serves forward mode by the reference (docs/reference/compatibility.md).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import library
from torch.autograd import forward_ad


@library.custom_op("finding::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


square.register_fake(torch.empty_like)
square.register_autograd(
    lambda ctx, grad: 2 * ctx.saved_tensors[0] * grad,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)
three, one = torch.tensor([3.0]), torch.ones(1)
leaf = three.clone().requires_grad_()
(gradient,) = torch.autograd.grad(square(leaf), leaf)
_, tangent = torch.func.jvp(square, (three,), (one,))
with forward_ad.dual_level():
    dual = forward_ad.unpack_dual(square(forward_ad.make_dual(three, one))).tangent
try:
    torch.func.grad(lambda x: square(x).sum())(three)
    asks = "nothing"
except RuntimeError as error:
    asks = "setup_context" if "setup_context" in str(error) else str(error)
print(f"torch {torch.__version__}: d(x*x) at 3: backward {gradient.item()}, jvp {tangent.item()}, "
      f"forward_ad {dual}, func.grad asks for {asks}")
assert (gradient.item(), tangent.item(), dual, asks) == (6.0, 0.0, None, "setup_context")
PY
echo "as found"
