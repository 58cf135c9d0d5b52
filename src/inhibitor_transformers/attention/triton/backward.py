"""The backward kernels: one for queries and scalars, by blocks of queries; one for keys and values, by blocks of keys.

Nothing is added atomically: every number is written once, by one program, and equal calls give equal bits.

With p_ijk = 1 where value k of key j passes the inhibition of query i, l_i = (n0/n_i)^rho and g the gradient of H:

    b_ij = l_i Σ_k g_ik sign(v_jk) p_ijk  where Z_ij > 0, else 0       minus the gradient of Z, over eta
    dS_ij = -eta (b_ij - mean_j b_ij)                                   the mean only when centered
    dv_jk = eta Σ_i l_i g_ik p_ijk
    dq_id = gamma/√D Σ_j dS_ij sign(q_id - k_jd),  dk_jd = gamma/√D Σ_i dS_ij sign(k_jd - q_id)
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    add_signed,
    add_value_gradients,
    columns,
    distances,
    head_start,
    inhibition,
    int64,
    key_distances,
    keys_in_use,
    keys_to_visit,
    load_rows,
    load_steps,
    load_tile,
    passed_gradients,
    score_shift,
    store_rows,
    store_steps,
    store_tile,
    store_transposed,
    sum_of_rows,
    valid_pairs,
)


@triton.jit
def tile_gradients(
    queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys, valid, mean,
    scale, shifts, DIM: tl.constexpr, VALUE_DIM: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    LANES: tl.constexpr, DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr, IS_SIGNED: tl.constexpr,
    WITH_DOT: tl.constexpr,
):  # fmt: skip
    """For a tile of keys: the distance less its mean, b_ij, and this row's gradient of eta before it is summed."""
    distance = key_distances(queries_t, keys_t, keys_at, key_strides, start, keys, DIM, ROWS, KEYS, LANES, DIM_BLOCK)
    ones = tl.full((KEYS,), 1.0, tl.float32)
    store_transposed(values_t, values_at, value_strides, start, keys, ones, VALUE_DIM, KEYS, VALUE_BLOCK)
    tl.debug_barrier()
    x, z = inhibition(distance, mean[None, :, None], scale, shifts)
    passed, dot = passed_gradients(
        tl.where(valid, z, float("inf")), grads_t, values_t, VALUE_DIM, ROWS, KEYS, LANES, IS_SIGNED,
        VALUES_IN_ROWS=False, WITH_DOT=WITH_DOT,
    )  # fmt: skip
    b = tl.where(valid & (x > 0), passed, 0.0)
    return distance - mean[None, :, None], b, dot - tl.where(valid, z, 0.0) * passed


@triton.jit
def bwd_dq_kernel(
    query, key, value, gamma, eta, delta, score_bias, key_mask, attn_mask, grad, saved, grad_query, grad_means,
    grad_scalars, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, grad_strides,
    grad_query_strides,
    heads, groups, queries, keys, blocks, log_length_reference, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    IS_CENTERED: tl.constexpr, CACHED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of queries; mean_j b_ij (B, H, Nq) for the other kernel; and those of gamma, eta, delta and rho, a
    partial sum for each block: (4, blocks). CACHED: scratch memory holds b of a block and all keys; otherwise b is
    computed twice.
    """
    queries_t = scratch + int64(tl.program_id(0)) * scratch_size
    keys_t = queries_t + DIM_BLOCK * ROWS
    grads_t = keys_t + DIM_BLOCK * KEYS
    values_t = grads_t + VALUE_BLOCK * ROWS
    steps = values_t + VALUE_BLOCK * KEYS
    per_head = tl.cdiv(queries, ROWS)
    rows_of_all = int64(blocks // per_head) * queries
    masks, bias = (key_mask, attn_mask, key_mask_strides, attn_mask_strides), (score_bias, score_bias_strides)
    column = columns(KEYS, LANES)[:, None, :]
    ones = tl.full((ROWS,), 1.0, tl.float32)

    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        batch, head = int64(block // per_head // heads), int64(block // per_head % heads)
        first = block % per_head * ROWS
        row = first + tl.arange(0, ROWS)
        keys_at = head_start(key, key_strides, batch, head // groups)
        values_at = head_start(value, value_strides, batch, head // groups)
        scale, shift, factor = tl.load(gamma + head) / tl.sqrt(DIM * 1.0), tl.load(delta + head), tl.load(eta + head)
        visited = keys_to_visit(first, queries, keys, batch, key_mask, key_mask_strides, ROWS, IS_CAUSAL)
        saved_at, inside = saved + (batch * heads + head) * queries + row, row < queries
        mean = tl.load(saved_at, mask=inside, other=0.0)
        counts = tl.maximum(tl.load(saved_at + rows_of_all, mask=inside, other=1.0), 1.0)
        length = tl.load(saved_at + 2 * rows_of_all, mask=inside, other=0.0)
        bias_mean = tl.load(saved_at + 3 * rows_of_all, mask=inside, other=0.0)[None, :, None]

        tl.debug_barrier()  # the last block has been read
        query_at = head_start(query, query_strides, batch, head)
        store_transposed(queries_t, query_at, query_strides, first, queries, ones, DIM, ROWS, DIM_BLOCK)
        grad_at = head_start(grad, grad_strides, batch, head)
        store_transposed(grads_t, grad_at, grad_strides, first, queries, length, VALUE_DIM, ROWS, VALUE_BLOCK)

        passed_sum, distance_sum = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        dot_sum = tl.zeros((ROWS,), tl.float32)
        for start in range(0, visited, KEYS):
            valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
            shifts = score_shift(shift, row[None, :, None], start + column, head, bias, bias_mean, valid)
            centered, b, dot = tile_gradients(
                queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys,
                valid, mean, scale, shifts, DIM, VALUE_DIM, ROWS, KEYS, LANES, DIM_BLOCK, VALUE_BLOCK, IS_SIGNED,
                WITH_DOT=True,
            )  # fmt: skip
            dot_sum += sum_of_rows(dot)
            passed_sum += sum_of_rows(b)
            distance_sum += sum_of_rows(tl.where(valid, b * centered, 0.0))
            if CACHED:
                store_steps(b, steps + start * ROWS, ROWS, KEYS, LANES)

        b_mean = passed_sum / counts if IS_CENTERED else tl.zeros((ROWS,), tl.float32)
        own = load_tile(query_at, query_strides, first, queries, DIM, ROWS, DIM_BLOCK, LANES)
        total = tl.zeros((DIM_BLOCK // LANES, ROWS, LANES), tl.float32)
        tl.debug_barrier()
        for start in range(0, visited, KEYS):
            valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
            if CACHED:
                steps_t = steps + start * ROWS
                b = load_steps(steps_t, ROWS, KEYS, LANES)
                tl.debug_barrier()  # all have read what is overwritten below
            else:
                steps_t = steps
                shifts = score_shift(shift, row[None, :, None], start + column, head, bias, bias_mean, valid)
                _, b, _ = tile_gradients(
                    queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys,
                    valid, mean, scale, shifts, DIM, VALUE_DIM, ROWS, KEYS, LANES, DIM_BLOCK, VALUE_BLOCK, IS_SIGNED,
                    WITH_DOT=False,
                )  # fmt: skip
            ds = tl.where(valid, (b - b_mean[None, :, None]) * (-factor * scale), 0.0)
            store_steps(ds, steps_t, ROWS, KEYS, LANES)
            tl.debug_barrier()
            total = add_signed(
                total, own, steps_t, keys_at, key_strides, start, keys, DIM, ROWS, KEYS, LANES, DIM_BLOCK
            )
        out_at = head_start(grad_query, grad_query_strides, batch, head)
        store_tile(total, out_at, grad_query_strides, first, queries, DIM, ROWS, DIM_BLOCK, LANES)
        tl.store(grad_means + (batch * heads + head) * queries + row, b_mean, mask=inside)
        logs = log_length_reference * 0.6931471805599453 - tl.log(counts)
        tl.store(grad_scalars + block, tl.sum(distance_sum) * (-factor / tl.sqrt(DIM * 1.0)))
        tl.store(grad_scalars + blocks + block, tl.sum(dot_sum))
        tl.store(grad_scalars + 2 * blocks + block, -factor * tl.sum(passed_sum))
        tl.store(grad_scalars + 3 * blocks + block, factor * tl.sum(dot_sum * logs))


@triton.jit
def bwd_dkdv_kernel(
    query, key, value, gamma, eta, delta, score_bias, key_mask, attn_mask, grad, saved, grad_means, grad_key,
    grad_value, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, grad_strides,
    grad_key_strides, grad_value_strides, heads, groups, queries, keys, blocks, rows_of_all, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    ROWS: tl.constexpr, QUERIES: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values. Here ROWS are keys and columns are queries, of every head that shares the keys."""
    keys_t = scratch + int64(tl.program_id(0)) * scratch_size
    queries_t = keys_t + DIM_BLOCK * ROWS
    values_t = queries_t + DIM_BLOCK * QUERIES
    grads_t = values_t + VALUE_BLOCK * ROWS
    values = grads_t + VALUE_BLOCK * QUERIES
    z_t = values + VALUE_BLOCK * ROWS
    ds_t = z_t + ROWS * QUERIES
    per_head = tl.cdiv(keys, ROWS)
    kv_heads = heads // groups
    masks, bias = (key_mask, attn_mask, key_mask_strides, attn_mask_strides), (score_bias, score_bias_strides)
    column = columns(QUERIES, LANES)[:, None, :]
    ones, query_ones = tl.full((ROWS,), 1.0, tl.float32), tl.full((QUERIES,), 1.0, tl.float32)

    for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
        batch, kv_head = int64(block // per_head // kv_heads), int64(block // per_head % kv_heads)
        first = block % per_head * ROWS
        row = first + tl.arange(0, ROWS)
        key_at = head_start(key, key_strides, batch, kv_head)
        value_at = head_start(value, value_strides, batch, kv_head)
        tl.debug_barrier()  # the last block has been read
        store_transposed(keys_t, key_at, key_strides, first, keys, ones, DIM, ROWS, DIM_BLOCK)
        store_transposed(values_t, value_at, value_strides, first, keys, ones, VALUE_DIM, ROWS, VALUE_BLOCK)
        store_rows(values, value_at, value_strides, first, keys, ones, batch, None, None, VALUE_DIM, ROWS, VALUE_BLOCK)
        key_total = tl.zeros((DIM_BLOCK // LANES, ROWS, LANES), tl.float32)
        value_total = tl.zeros((VALUE_BLOCK // LANES, ROWS, LANES), tl.float32)
        first_query = tl.maximum(first - (keys - queries), 0) // QUERIES * QUERIES if IS_CAUSAL else 0
        last_query = tl.where(first < keys_in_use(keys, batch, key_mask, key_mask_strides), queries, 0)

        for member in range(groups):
            head = kv_head * groups + member
            scale, shift = tl.load(gamma + head) / tl.sqrt(DIM * 1.0), tl.load(delta + head)
            factor = tl.load(eta + head)
            query_at = head_start(query, query_strides, batch, head)
            grad_at = head_start(grad, grad_strides, batch, head)
            of_queries = (batch * heads + head) * queries
            lengths_at = saved + 2 * rows_of_all + of_queries
            for start in range(first_query, last_query, QUERIES):
                number = start + tl.arange(0, QUERIES)
                length = tl.load(lengths_at + number, mask=number < queries, other=0.0)
                tl.debug_barrier()  # the last tile has been read
                store_transposed(
                    queries_t, query_at, query_strides, start, queries, query_ones, DIM, QUERIES, DIM_BLOCK
                )
                store_transposed(
                    grads_t, grad_at, grad_strides, start, queries, length, VALUE_DIM, QUERIES, VALUE_BLOCK
                )
                tl.debug_barrier()
                distance = distances(keys_t, queries_t, DIM, ROWS, QUERIES, LANES)
                exists = start + column < queries
                mean = tl.load(saved + of_queries + start + column, mask=exists, other=0.0)
                b_mean = tl.load(grad_means + of_queries + start + column, mask=exists, other=0.0)
                valid = valid_pairs(start + column, row[None, :, None], batch, head, masks, queries, keys, IS_CAUSAL)
                means_at = saved + 3 * rows_of_all + of_queries + start + column
                bias_mean = tl.load(means_at, mask=exists, other=0.0)
                shifts = score_shift(shift, start + column, row[None, :, None], head, bias, bias_mean, valid)
                x, z = inhibition(distance, mean, scale, shifts)
                z = tl.where(valid, z, float("inf"))
                b, _ = passed_gradients(
                    z, values_t, grads_t, VALUE_DIM, ROWS, QUERIES, LANES, IS_SIGNED, VALUES_IN_ROWS=True,
                    WITH_DOT=False,
                )  # fmt: skip
                ds = tl.where(valid, (tl.where(x > 0, b, 0.0) - b_mean) * (-factor * scale), 0.0)
                store_steps(z, z_t, ROWS, QUERIES, LANES)
                store_steps(ds, ds_t, ROWS, QUERIES, LANES)
                tl.debug_barrier()  # the transposed gradients have been read: their place is free
                store_rows(
                    grads_t, grad_at, grad_strides, start, queries, length * factor, batch, None, None, VALUE_DIM,
                    QUERIES, VALUE_BLOCK,
                )  # fmt: skip
                tl.debug_barrier()
                value_total = add_value_gradients(
                    value_total, load_rows(values, ROWS, VALUE_BLOCK, LANES), z_t, grads_t,
                    tl.minimum(QUERIES, queries - start), ROWS, LANES, VALUE_BLOCK, IS_SIGNED,
                )  # fmt: skip
                own = load_tile(key_at, key_strides, first, keys, DIM, ROWS, DIM_BLOCK, LANES)
                key_total = add_signed(
                    key_total, own, ds_t, query_at, query_strides, start, queries, DIM, ROWS, QUERIES, LANES, DIM_BLOCK
                )
        to_key = head_start(grad_key, grad_key_strides, batch, kv_head)
        store_tile(key_total, to_key, grad_key_strides, first, keys, DIM, ROWS, DIM_BLOCK, LANES)
        to_value = head_start(grad_value, grad_value_strides, batch, kv_head)
        store_tile(value_total, to_value, grad_value_strides, first, keys, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
