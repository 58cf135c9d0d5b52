"""Grids, scratch memory and arguments of the kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources

from ..call import Masks, Options, Tensors
from ..engine import Gradients, heads_last
from .backward import bwd_dkdv_kernel, bwd_dq_kernel
from .bias import bwd_dbias_kernel
from .forward import forward_kernel
from .tile_config import TileConfig, choose, dim_block

# What all programs together may keep in scratch memory to save the distances of their blocks to all keys, in bytes:
# about the second-level cache of a data-center GPU. Beyond it distances are computed twice, and memory stops growing.
CACHE_BYTES = 64 << 20


SAVED = 6  # numbers of each query: see `forward_kernel`


def forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    """H in the dtype of the query, and what `backward` needs if `saving`: (SAVED, B, H, Nq) float32."""
    call = Call(tensors, masks, options)
    query, value = call.query, call.value
    out = heads_last(query, value.shape[-1])
    saved = query.new_empty((SAVED, *query.shape[:3]), dtype=torch.float32) if saving else None
    if call.is_empty:  # backward reads nothing then
        return out.zero_(), saved

    def run(config: TileConfig) -> None:
        cached = call.caches_distances(config)
        call.launch(
            forward_kernel,
            config,
            per_head=call.queries,
            scratch=call.scratch(config, cached, call.key_block),
            arguments={
                "length_exponent": call.length_exponent,
                "out": out,
                "saved": saved,
                "out_strides": out.stride(),
                "log_length_reference": call.log_length_reference,
                "CACHED": cached,
                "KEYS": config.columns,
            },
        )

    call.run("forward", run)
    return out, saved


def backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options, with_bias: bool
) -> Gradients:
    """Gradients of query, key and value in their dtype, of the scalars that are given per sequence, (4 to 6, B, H), and
    of the bias."""
    call = Call(tensors, masks, options)
    gq, gk, gv = (heads_last(t, t.shape[-1]) for t in tensors.qkv)
    if call.is_empty:
        scalars = call.gamma.new_zeros((sum(s is not None for s in tensors.scalars), call.batch, call.heads))
        of_bias = torch.zeros_like(tensors.score_bias) if tensors.score_bias is not None and with_bias else None
        return gq.zero_(), gk.zero_(), gv.zero_(), scalars, of_bias
    has_unit, has_key_norm = call.unit is not None, call.key_norm is not None
    means = saved.new_empty((1 + has_unit, *saved.shape[1:]))
    partial_sums: list[Tensor] = []  # of the gradients of the scalars, one for each block
    partial_sums_of_key_norm: list[Tensor] = []

    def run_dq(config: TileConfig) -> None:
        cached = call.caches_gradients(config)
        count = call.count(config, call.queries)
        partial_sums[:] = [saved.new_empty((4 + has_unit, count))]
        call.launch(
            bwd_dq_kernel,
            config,
            per_head=call.queries,
            scratch=call.scratch(config, cached, call.both_blocks),
            arguments={
                "grad": grad,
                "out": out,
                "saved": saved,
                "grad_query": gq,
                "grad_means": means,
                "grad_scalars": partial_sums[0],
                "grad_strides": grad.stride(),
                "out_strides": out.stride(),
                "grad_query_strides": gq.stride(),
                "log_length_reference": call.log_length_reference,
                "CACHED": cached,
                "KEYS": config.columns,
            },
        )

    def run_dkdv(config: TileConfig) -> None:
        if has_key_norm:
            partial_sums_of_key_norm[:] = [saved.new_empty(call.count(config, call.keys))]
        call.launch(
            bwd_dkdv_kernel,
            config,
            per_head=call.keys,
            heads=call.kv_heads,
            scratch=call.both_blocks * (config.rows + config.columns)
            + config.rows * (call.value_block + 2 * config.columns),
            arguments={
                "grad": grad,
                "saved": saved,
                "grad_means": means,
                "grad_key": gk,
                "grad_value": gv,
                "grad_key_norm": partial_sums_of_key_norm[0] if has_key_norm else None,
                "grad_strides": grad.stride(),
                "grad_key_strides": gk.stride(),
                "grad_value_strides": gv.stride(),
                "rows_of_all": call.batch * call.heads * call.queries,
                "QUERIES": config.columns,
            },
        )

    call.run("bwd_dq", run_dq)
    call.run("bwd_dkdv", run_dkdv)
    scalars = partial_sums[0].unflatten(1, (call.batch, call.heads, -1)).sum(3)
    if has_key_norm:
        of_key_norm = partial_sums_of_key_norm[0].view(1, call.batch, call.heads, -1).sum(3)
        scalars = torch.cat([scalars[:4], of_key_norm, scalars[4:]])
    return gq, gk, gv, scalars, _bias_gradient(call, grad, saved, means) if with_bias else None


def _bias_gradient(call: Call, grad: Tensor, saved: Tensor, means: Tensor) -> Tensor:
    """In the shape of the bias; `means` from `bwd_dq_kernel`."""
    assert call.score_bias is not None
    of_heads = torch.empty(call.score_bias.shape, dtype=torch.float32, device=grad.device)

    def run(config: TileConfig) -> None:
        call.launch(
            bwd_dbias_kernel,
            config,
            per_head=call.queries,
            batch=1,
            scratch=call.both_blocks * (config.rows + config.columns),
            arguments={
                "grad": grad,
                "saved": saved,
                "grad_means": means,
                "grad_bias": of_heads,
                "grad_strides": grad.stride(),
                "batches": call.batch,
                "KEYS": config.columns,
            },
        )

    call.run("bwd_dbias", run)
    return of_heads if call.bias_heads == call.heads else of_heads.sum(0, keepdim=True)


class Call:
    """The sizes of a call and the arguments that all kernels take."""

    def __init__(self, tensors: Tensors, masks: Masks, options: Options) -> None:
        self.query, self.key, self.value = tensors.qkv
        self.gamma, self.eta, self.delta = (s.contiguous() for s in (tensors.gamma, tensors.eta, tensors.delta))
        self.length_exponent = tensors.length_exponent.contiguous()
        self.key_norm, self.unit = (None if s is None else s.contiguous() for s in (tensors.key_norm, tensors.unit))
        self.batch, self.heads, self.queries, self.dim = self.query.shape
        self.kv_heads, self.keys, self.value_dim = self.value.shape[1:]
        self.is_causal, self.is_signed, self.center = options.is_causal, options.is_signed, options.center
        self.log_length_reference = math.log2(options.length_reference)
        self.dim_block, self.value_block = dim_block(self.dim), dim_block(self.value_dim)
        self.key_block = max(self.dim_block, self.value_block)  # keys and their values take the same place in turn
        self.both_blocks = self.dim_block + self.value_block
        self.is_empty = 0 in (*self.query.shape, self.keys, self.value_dim)
        self.score_bias, self.bias_heads = tensors.score_bias, self.heads
        if self.score_bias is not None:
            self.bias_heads = self.score_bias.shape[0]
            self.score_bias = self.score_bias.expand(self.heads, -1, -1)
        self.key_mask, self.attn_mask = (None if mask is None else mask.view(torch.uint8) for mask in masks)

    def count(self, config: TileConfig, per_head: int, heads: int | None = None, batch: int | None = None) -> int:
        """Blocks of rows, over all heads together."""
        heads_of_all = (self.batch if batch is None else batch) * (self.heads if heads is None else heads)
        return heads_of_all * triton.cdiv(per_head, config.rows)

    def scratch(self, config: TileConfig, cached: bool, dims: int) -> int:
        """Floats of scratch memory for a program that walks through blocks of queries and tiles of keys; `dims`:
        features of the rows that are kept."""
        keys = triton.cdiv(self.keys, config.columns) * config.columns if cached else config.columns
        return dims * (config.rows + config.columns) + config.rows * keys

    def caches_distances(self, config: TileConfig) -> bool:
        """Whether the forward pass keeps the distances of a block to all keys between its two passes over them."""
        return self.center != "none" and self._may_cache(config, self.key_block)

    def caches_gradients(self, config: TileConfig) -> bool:
        """Whether the backward pass keeps the gradients of a block's scores between its two passes over all keys."""
        return self._may_cache(config, self.both_blocks)

    def _may_cache(self, config: TileConfig, dims: int) -> bool:
        """Whether a number for every pair of a block and all keys may lie in scratch memory."""
        programs = min(self.count(config, self.queries), resident(self.query.device, config.programs))
        return 4 * programs * self.scratch(config, True, dims) <= CACHE_BYTES

    def run(self, kernel: str, run: Callable[[TileConfig], None]) -> None:
        """Run with the tile sizes that were chosen for this kernel."""

        def time_with(config: TileConfig) -> float:
            try:
                run(config)  # compiles
                return float(triton.testing.do_bench(lambda: run(config)))
            except OutOfResources:
                return math.inf

        with torch.cuda.device_of(self.query):
            run(choose(kernel, self.dim, self.value_dim, self.query.dtype, time_with))

    def launch(
        self,
        kernel: Any,
        config: TileConfig,
        *,
        per_head: int,
        scratch: int,
        arguments: dict[str, Any],
        heads: int | None = None,
        batch: int | None = None,
    ) -> None:
        """`per_head`: rows of a head; `scratch`: floats for each program; `heads`, `batch`: None: of the query."""
        count = self.count(config, per_head, heads, batch)
        programs = min(count, resident(self.query.device, config.programs))
        kernel[(programs,)](
            query=self.query,
            key=self.key,
            value=self.value,
            gamma=self.gamma,
            eta=self.eta,
            delta=self.delta,
            key_norm=self.key_norm,
            unit=self.unit,
            score_bias=self.score_bias,
            key_mask=self.key_mask,
            attn_mask=self.attn_mask,
            query_strides=self.query.stride(),
            key_strides=self.key.stride(),
            value_strides=self.value.stride(),
            score_bias_strides=None if self.score_bias is None else self.score_bias.stride(),
            key_mask_strides=None if self.key_mask is None else self.key_mask.stride(),
            attn_mask_strides=None if self.attn_mask is None else self.attn_mask.stride(),
            heads=self.heads,
            groups=self.heads // self.kv_heads,
            queries=self.queries,
            keys=self.keys,
            blocks=count,
            scratch=self.query.new_empty(programs * scratch, dtype=torch.float32),
            scratch_size=scratch,
            DIM=self.dim,
            VALUE_DIM=self.value_dim,
            IS_CAUSAL=self.is_causal,
            IS_SIGNED=self.is_signed,
            CENTER=self.center,
            ROWS=config.rows,
            LANES=config.lanes,
            DIM_BLOCK=self.dim_block,
            VALUE_BLOCK=self.value_block,
            num_warps=config.warps,
            enable_fp_fusion=True,  # multiply-adds are one instruction; the default is about to change
            **arguments,
        )


@cache
def resident(device: torch.device, per_multiprocessor: int) -> int:
    """Programs that a device runs at once; in the interpreter, few enough that each takes several blocks."""
    if device.type != "cuda":
        return 3
    return torch.cuda.get_device_properties(device).multi_processor_count * per_multiprocessor
