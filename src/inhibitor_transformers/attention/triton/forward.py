"""The forward kernel: for a block of queries the mean distance over all keys, then inhibition and sums by tiles."""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    add_shrunk,
    columns,
    head_start,
    inhibition,
    int64,
    key_distances,
    keys_to_visit,
    load_steps,
    score_shift,
    store_rows,
    store_steps,
    store_tile,
    store_transposed,
    sum_of_rows,
    valid_pairs,
)


@triton.jit
def forward_kernel(
    query, key, value, gamma, eta, delta, length_exponent, score_bias, key_mask, attn_mask, out, saved, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, out_strides,
    heads, groups, queries, keys, blocks, log_length_reference, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    IS_CENTERED: tl.constexpr, CACHED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program takes blocks of ROWS queries in turn. `saved`, (4, B, H, Nq) float32 or None: the mean distance of a
    query, the number of its keys, (n0/n)^rho and the mean bias, for the backward pass. CACHED: scratch memory holds the
    distances of a block to all keys; otherwise those are computed twice where the mean is needed.
    """
    # An invalid pair of a valid key needs a mark of its own; an invalid key only has to be read as zero.
    BY_PAIR: tl.constexpr = IS_CAUSAL or attn_mask is not None
    queries_t = scratch + int64(tl.program_id(0)) * scratch_size
    keys_t = queries_t + DIM_BLOCK * ROWS
    steps = keys_t + max(DIM_BLOCK, VALUE_BLOCK) * KEYS
    per_head = tl.cdiv(queries, ROWS)
    masks, bias = (key_mask, attn_mask, key_mask_strides, attn_mask_strides), (score_bias, score_bias_strides)
    column = columns(KEYS, LANES)[:, None, :]
    ones = tl.full((ROWS,), 1.0, tl.float32)

    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        batch, head = int64(block // per_head // heads), int64(block // per_head % heads)
        first = block % per_head * ROWS
        row = first + tl.arange(0, ROWS)
        keys_at = head_start(key, key_strides, batch, head // groups)
        values_at = head_start(value, value_strides, batch, head // groups)
        scale, shift = tl.load(gamma + head) / tl.sqrt(DIM * 1.0), tl.load(delta + head)
        visited = keys_to_visit(first, queries, keys, batch, key_mask, key_mask_strides, ROWS, IS_CAUSAL)

        tl.debug_barrier()  # the last block has been read
        query_at = head_start(query, query_strides, batch, head)
        store_transposed(queries_t, query_at, query_strides, first, queries, ones, DIM, ROWS, DIM_BLOCK)

        sums, counts = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        bias_sums = tl.zeros((ROWS,), tl.float32)
        if IS_CENTERED:
            for start in range(0, visited, KEYS):
                distance = key_distances(
                    queries_t, keys_t, keys_at, key_strides, start, keys, DIM, ROWS, KEYS, LANES, DIM_BLOCK
                )
                valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
                if CACHED:
                    store_steps(distance, steps + start * ROWS, ROWS, KEYS, LANES)
                sums += sum_of_rows(tl.where(valid, distance, 0.0))
                counts += sum_of_rows(tl.where(valid, 1.0, 0.0))
                if score_bias is not None:
                    bias_sums += sum_of_rows(
                        score_shift(0.0, row[None, :, None], start + column, head, bias, 0.0, valid)
                    )
            tl.debug_barrier()
        mean, bias_mean = sums / tl.maximum(counts, 1.0), bias_sums / tl.maximum(counts, 1.0)

        total = tl.zeros((VALUE_BLOCK // LANES, ROWS, LANES), tl.float32)
        value_sum = tl.zeros((VALUE_BLOCK // LANES, LANES), tl.float32)
        for start in range(0, visited, KEYS):
            if CACHED and IS_CENTERED:
                z_t = steps + start * ROWS
                distance = load_steps(z_t, ROWS, KEYS, LANES)
                tl.debug_barrier()  # all have read what is overwritten below, and the last tile's values
            else:
                z_t = steps
                distance = key_distances(
                    queries_t, keys_t, keys_at, key_strides, start, keys, DIM, ROWS, KEYS, LANES, DIM_BLOCK
                )
            valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
            if not IS_CENTERED:
                counts += sum_of_rows(tl.where(valid, 1.0, 0.0))
            shifts = score_shift(shift, row[None, :, None], start + column, head, bias, bias_mean[None, :, None], valid)
            _, z = inhibition(distance, mean[None, :, None], scale, shifts)
            store_steps(tl.where(valid, z, float("inf") if BY_PAIR else 0.0), z_t, ROWS, KEYS, LANES)
            tl.debug_barrier()  # the keys have been read: their place is free for their values
            store_rows(
                keys_t, values_at, value_strides, start, keys, tl.full((KEYS,), 1.0, tl.float32), batch, key_mask,
                key_mask_strides, VALUE_DIM, KEYS, VALUE_BLOCK,
            )  # fmt: skip
            tl.debug_barrier()
            total, value_sum = add_shrunk(
                total, value_sum, z_t, keys_t, tl.minimum(KEYS, visited - start), ROWS, LANES, VALUE_BLOCK, IS_SIGNED,
                BY_PAIR,
            )  # fmt: skip

        rho = tl.load(length_exponent + head)
        length = tl.exp2(rho * (log_length_reference - tl.log2(tl.maximum(counts, 1.0))))
        result = (total + value_sum[:, None, :]) * (length * tl.load(eta + head))[None, :, None]
        out_at = head_start(out, out_strides, batch, head)
        store_tile(result, out_at, out_strides, first, queries, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
        if saved is not None:
            rows_of_all = int64(blocks // per_head) * queries
            at, inside = saved + (batch * heads + head) * queries + row, row < queries
            tl.store(at, mean, mask=inside)
            tl.store(at + rows_of_all, counts, mask=inside)
            tl.store(at + 2 * rows_of_all, length, mask=inside)
            tl.store(at + 3 * rows_of_all, bias_mean, mask=inside)
