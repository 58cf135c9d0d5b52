"""The forward kernel: for a block of queries what is subtracted from scores, then inhibition and sums by tiles."""

from __future__ import annotations

import triton
import triton.language as tl

from .scores import LEAST_PASSED, head_scalars, inhibition, min_of_rows, passed_shares, score_shift, scores
from .tiles import (
    add_shrunk,
    columns,
    head_start,
    int64,
    key_distances,
    keys_to_visit,
    load_steps,
    store_rows,
    store_steps,
    store_tile,
    store_transposed,
    sum_of_rows,
    valid_pairs,
)


@triton.jit
def forward_kernel(
    query, key, value, gamma, eta, delta, length_exponent, key_norm, unit, score_bias, key_mask, attn_mask, out, saved,
    scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, out_strides,
    heads, groups, queries, keys, blocks, log_length_reference, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    CENTER: tl.constexpr, CACHED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Each program takes blocks of ROWS queries in turn. CACHED: scratch memory holds the distances of a block to all
    keys; otherwise those are computed twice where scores are centered.

    `saved`, (6, B, H, Nq) float32 or None: of each query, for the backward pass, the mean distance (with CENTER "min"
    over the keys whose score is the least), the number of its keys, (n0/n)^rho over how many keys pass, the mean bias
    ("min": the least score), how many keys share the least score ("min"), and how many pass (where there is a unit).
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
        of_head = head_scalars(gamma, delta, key_norm, unit, head, DIM)
        norm, unit_size = of_head[2], of_head[3]
        visited = keys_to_visit(first, queries, keys, batch, key_mask, key_mask_strides, ROWS, IS_CAUSAL)

        tl.debug_barrier()  # the last block has been read
        query_at = head_start(query, query_strides, batch, head)
        store_transposed(queries_t, query_at, query_strides, first, queries, ones, DIM, ROWS, DIM_BLOCK)

        sums, counts = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        bias_sums, ties = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        least = tl.full((ROWS,), float("inf"), tl.float32)
        if CENTER != "none":
            for start in range(0, visited, KEYS):
                distance = key_distances(
                    queries_t, keys_t, keys_at, key_strides, start, keys, norm, DIM, ROWS, KEYS, LANES, DIM_BLOCK
                )
                valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
                if CACHED:
                    store_steps(distance, steps + start * ROWS, ROWS, KEYS, LANES)
                counts += sum_of_rows(tl.where(valid, 1.0, 0.0))
                if CENTER == "min":
                    score = scores(distance, row[None, :, None], start + column, head, of_head, bias, valid)
                    lower = tl.minimum(least, min_of_rows(tl.where(valid, score, float("inf"))))
                    if saved is not None:
                        here = valid & (score == lower[None, :, None])
                        sums = tl.where(lower < least, 0.0, sums) + sum_of_rows(tl.where(here, distance, 0.0))
                        ties = tl.where(lower < least, 0.0, ties) + sum_of_rows(tl.where(here, 1.0, 0.0))
                    least = lower
                else:
                    sums += sum_of_rows(tl.where(valid, distance, 0.0))
                    if score_bias is not None:
                        bias_sums += sum_of_rows(
                            score_shift(0.0, row[None, :, None], start + column, head, bias, 0.0, valid)
                        )
            tl.debug_barrier()
        ties = tl.maximum(ties, 1.0)
        mean = sums / (ties if CENTER == "min" else tl.maximum(counts, 1.0))
        offset = least if CENTER == "min" else bias_sums / tl.maximum(counts, 1.0)
        of_query = mean[None, :, None], offset[None, :, None]

        total = tl.zeros((VALUE_BLOCK // LANES, ROWS, LANES), tl.float32)
        value_sum = tl.zeros((VALUE_BLOCK // LANES, LANES), tl.float32)
        passed = tl.zeros((ROWS,), tl.float32)
        for start in range(0, visited, KEYS):
            if CACHED and CENTER != "none":
                z_t = steps + start * ROWS
                distance = load_steps(z_t, ROWS, KEYS, LANES)
                tl.debug_barrier()  # all have read what is overwritten below, and the last tile's values
            else:
                z_t = steps
                distance = key_distances(
                    queries_t, keys_t, keys_at, key_strides, start, keys, norm, DIM, ROWS, KEYS, LANES, DIM_BLOCK
                )
            valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
            if CENTER == "none":
                counts += sum_of_rows(tl.where(valid, 1.0, 0.0))
            z, _ = inhibition(
                distance, row[None, :, None], start + column, head, of_query, of_head, bias, valid, CENTER
            )
            z = tl.where(valid, z, float("inf"))
            if unit is not None:
                passed += sum_of_rows(passed_shares(z, unit_size))
            store_steps(z if BY_PAIR else tl.where(valid, z, 0.0), z_t, ROWS, KEYS, LANES)
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
        if unit is not None:
            passed = tl.maximum(passed, LEAST_PASSED)
            length = length / passed
        result = (total + value_sum[:, None, :]) * (length * tl.load(eta + head))[None, :, None]
        out_at = head_start(out, out_strides, batch, head)
        store_tile(result, out_at, out_strides, first, queries, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
        if saved is not None:
            rows_of_all = int64(blocks // per_head) * queries
            at, inside = saved + (batch * heads + head) * queries + row, row < queries
            tl.store(at, mean, mask=inside)
            tl.store(at + rows_of_all, counts, mask=inside)
            tl.store(at + 2 * rows_of_all, length, mask=inside)
            tl.store(at + 3 * rows_of_all, offset, mask=inside)
            tl.store(at + 4 * rows_of_all, ties, mask=inside)
            tl.store(at + 5 * rows_of_all, passed, mask=inside)
