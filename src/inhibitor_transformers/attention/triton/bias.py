"""The backward kernel of the bias of the scores: the sum over the batch of the gradient of S, by blocks of queries."""

from __future__ import annotations

import triton
import triton.language as tl

from .backward import tile_gradients
from .scores import head_scalars, less_mean
from .tiles import columns, head_start, int64, store_transposed, valid_pairs


@triton.jit
def bwd_dbias_kernel(
    query, key, value, gamma, eta, delta, key_norm, unit, score_bias, key_mask, attn_mask, grad, saved, grad_means,
    grad_bias, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, grad_strides,
    batches, heads, groups, queries, keys, blocks, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    CENTER: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr, DIM_BLOCK: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """`grad_bias`, (H, Nq, Nk) contiguous: dS_ij (backward.py), with `grad_means` from `bwd_dq_kernel`, summed by
    one program in the order of the batch. b is computed once more: no (B, H, Nq, Nk) tensor holds it."""
    queries_t = scratch + int64(tl.program_id(0)) * scratch_size
    keys_t = queries_t + DIM_BLOCK * ROWS
    grads_t = keys_t + DIM_BLOCK * KEYS
    values_t = grads_t + VALUE_BLOCK * ROWS
    per_head = tl.cdiv(queries, ROWS)
    rows_of_all = int64(batches * heads) * queries
    masks, bias = (key_mask, attn_mask, key_mask_strides, attn_mask_strides), (score_bias, score_bias_strides)
    column = columns(KEYS, LANES)[:, None, :]
    ones = tl.full((ROWS,), 1.0, tl.float32)

    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        head, first = int64(block // per_head), block % per_head * ROWS
        row = first + tl.arange(0, ROWS)
        inside = row < queries
        of_head, factor = head_scalars(gamma, delta, key_norm, unit, head, DIM), tl.load(eta + head)
        to = grad_bias + (head * queries + int64(row[None, :, None])) * keys
        for start in range(0, keys, KEYS):
            total = tl.zeros((KEYS // LANES, ROWS, LANES), tl.float32)
            for number in range(batches):
                batch = int64(number)
                of_rows = (batch * heads + head) * queries + row
                mean = tl.load(saved + of_rows, mask=inside, other=0.0)[None, :, None]
                length = tl.load(saved + 2 * rows_of_all + of_rows, mask=inside, other=0.0)
                offset, change = tl.load(saved + 3 * rows_of_all + of_rows, mask=inside, other=0.0)[None, :, None], 0.0
                if unit is not None:
                    change = tl.load(grad_means + rows_of_all + of_rows, mask=inside, other=0.0)[None, :, None]
                b_mean = tl.load(grad_means + of_rows, mask=inside, other=0.0)[None, :, None]
                tl.debug_barrier()  # the last tile has been read
                query_at = head_start(query, query_strides, batch, head)
                store_transposed(queries_t, query_at, query_strides, first, queries, ones, DIM, ROWS, DIM_BLOCK)
                grad_at = head_start(grad, grad_strides, batch, head)
                store_transposed(grads_t, grad_at, grad_strides, first, queries, length, VALUE_DIM, ROWS, VALUE_BLOCK)
                valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
                keys_at = head_start(key, key_strides, batch, head // groups)
                values_at = head_start(value, value_strides, batch, head // groups)
                _, b, _, _ = tile_gradients(
                    queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys,
                    row, head, valid, (mean, offset), change, of_head, bias, DIM, VALUE_DIM, ROWS, KEYS, LANES,
                    DIM_BLOCK, VALUE_BLOCK, IS_SIGNED, CENTER, WITH_DOT=False,
                )  # fmt: skip
                total += tl.where(valid, less_mean(b, b_mean, CENTER) * -factor, 0.0)
            inside_tile = inside[None, :, None] & (start + column < keys)
            tl.store(to + start + column, total, mask=inside_tile)
