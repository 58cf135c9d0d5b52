"""The backward kernels: one for queries and scalars, by blocks of queries; one for keys and values, by blocks of keys.

Nothing is added atomically: every number is written once, by one program, and equal calls give equal bits.

With p_ijk = 1 where value k of key j passes the inhibition of query i, l_i = (n0/n_i)^rho and g the gradient of H:

    b_ij = l_i Σ_k g_ik sign(v_jk) p_ijk  where Z_ij > 0, else 0       minus the gradient of Z, over eta
    dS_ij = -eta (b_ij - mean_j b_ij)                                   the mean only when centered on the mean
    dv_jk = eta Σ_i l_i g_ik p_ijk
    dq_id = gamma/√D Σ_j dS_ij sign(q_id - k_jd),  dk_jd = gamma/√D Σ_i dS_ij sign(k_jd - q_id)

Where rows start at their least score, those keys share Σ_j b_ij equally and no other loses anything. With a key norm
dk_jd is less lambda sign(k_jd) gamma/√D Σ_i dS_ij. With a unit l_i is over how many keys pass, P_i, and where
Z_ij < |u| b_ij is less c_i = Σ_k g_ik H_ik / (eta P_i |u|).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .scores import LEAST_PASSED, head_scalars, inhibition, less_mean, mark
from .tiles import (
    add_signed,
    add_value_gradients,
    columns,
    distances,
    head_start,
    int64,
    key_distances,
    keys_in_use,
    keys_to_visit,
    less_key_norm,
    load_rows,
    load_steps,
    load_tile,
    passed_gradients,
    sizes,
    store_rows,
    store_steps,
    store_tile,
    store_transposed,
    sum_of_rows,
    valid_pairs,
)


@triton.jit
def less_passed(passed, z, change, unit):
    """Minus the gradient of Z over eta, less what it loses because the sum is divided by how many keys pass."""
    return passed if unit is None else passed - tl.where(z < unit, change, 0.0)


@triton.jit
def tile_gradients(
    queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys, row, head,
    valid, of_query, change, of_head, bias, DIM: tl.constexpr, VALUE_DIM: tl.constexpr, ROWS: tl.constexpr,
    KEYS: tl.constexpr, LANES: tl.constexpr, DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
    IS_SIGNED: tl.constexpr, CENTER: tl.constexpr, WITH_DOT: tl.constexpr,
):  # fmt: skip
    """For a tile of keys: the distance less its mean, marked b_ij, this row's gradient of eta before it is summed, and
    (WITH_DOT) the sum of the Z below the unit. `change`: c_i; `of_query`, `of_head`: see scores.py."""
    mean, _ = of_query
    _, _, norm, unit = of_head
    distance = key_distances(
        queries_t, keys_t, keys_at, key_strides, start, keys, norm, DIM, ROWS, KEYS, LANES, DIM_BLOCK
    )
    ones = tl.full((KEYS,), 1.0, tl.float32)
    store_transposed(values_t, values_at, value_strides, start, keys, ones, VALUE_DIM, KEYS, VALUE_BLOCK)
    tl.debug_barrier()
    key = start + columns(KEYS, LANES)[:, None, :]
    z, averaged = inhibition(distance, row[None, :, None], key, head, of_query, of_head, bias, valid, CENTER)
    z_sum = tl.zeros((ROWS,), tl.float32)
    if WITH_DOT and unit is not None:
        z_sum = sum_of_rows(tl.where(valid & (z < unit), z, 0.0))
    passed, dot = passed_gradients(
        tl.where(valid, z, float("inf")), grads_t, values_t, VALUE_DIM, ROWS, KEYS, LANES, IS_SIGNED,
        VALUES_IN_ROWS=False, WITH_DOT=WITH_DOT,
    )  # fmt: skip
    dot = dot - tl.where(valid, z, 0.0) * passed
    passed = less_passed(passed, z, change, unit)
    b = mark(tl.where(valid & (z > 0), passed, 0.0), averaged, CENTER)
    return distance - mean, b, dot, z_sum


@triton.jit
def bwd_dq_kernel(
    query, key, value, gamma, eta, delta, key_norm, unit, score_bias, key_mask, attn_mask, grad, out, saved,
    grad_query, grad_means, grad_scalars, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, grad_strides,
    out_strides, grad_query_strides,
    heads, groups, queries, keys, blocks, log_length_reference, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    CENTER: tl.constexpr, CACHED: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of queries; for the other kernels (1 or 2, B, H, Nq): what is taken off b_ij for the centering, with a
    unit c_i as well; and the gradients of gamma, eta, delta, rho (and the unit), a partial sum for each block: (4 or 5,
    blocks). CACHED: scratch memory holds b of a block and all keys; otherwise b is computed twice.
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
        of_head, factor = head_scalars(gamma, delta, key_norm, unit, head, DIM), tl.load(eta + head)
        scale, unit_size = of_head[0], of_head[3]
        visited = keys_to_visit(first, queries, keys, batch, key_mask, key_mask_strides, ROWS, IS_CAUSAL)
        saved_at, inside = saved + (batch * heads + head) * queries + row, row < queries
        mean = tl.load(saved_at, mask=inside, other=0.0)
        counts = tl.maximum(tl.load(saved_at + rows_of_all, mask=inside, other=1.0), 1.0)
        length = tl.load(saved_at + 2 * rows_of_all, mask=inside, other=0.0)
        offset = tl.load(saved_at + 3 * rows_of_all, mask=inside, other=0.0)

        tl.debug_barrier()  # the last block has been read
        query_at = head_start(query, query_strides, batch, head)
        store_transposed(queries_t, query_at, query_strides, first, queries, ones, DIM, ROWS, DIM_BLOCK)
        grad_at = head_start(grad, grad_strides, batch, head)
        store_transposed(grads_t, grad_at, grad_strides, first, queries, length, VALUE_DIM, ROWS, VALUE_BLOCK)

        along, change = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        if unit is not None:
            passed = tl.load(saved_at + 5 * rows_of_all, mask=inside, other=1.0)
            out_at = head_start(out, out_strides, batch, head)
            products = load_tile(grad_at, grad_strides, first, queries, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
            products *= load_tile(out_at, out_strides, first, queries, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
            along = tl.where(passed > LEAST_PASSED, sum_of_rows(products) / (passed * unit_size), 0.0)
            change = along / tl.where(factor != 0.0, factor, 1.0)  # without eta nothing goes along
        of_query, change_of_pairs = (mean[None, :, None], offset[None, :, None]), change[None, :, None]

        passed_sum, distance_sum = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        dot_sum, z_sum = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        for start in range(0, visited, KEYS):
            valid = valid_pairs(row[None, :, None], start + column, batch, head, masks, queries, keys, IS_CAUSAL)
            centered, b, dot, z_sum_of_tile = tile_gradients(
                queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys, row,
                head, valid, of_query, change_of_pairs, of_head, bias, DIM, VALUE_DIM, ROWS, KEYS, LANES, DIM_BLOCK,
                VALUE_BLOCK, IS_SIGNED, CENTER, WITH_DOT=True,
            )  # fmt: skip
            dot_sum += sum_of_rows(dot)
            passed_sum += sum_of_rows(b)
            distance_sum += sum_of_rows(tl.where(valid, b * centered, 0.0))
            if unit is not None:
                z_sum += z_sum_of_tile
            if CACHED:
                store_steps(b, steps + start * ROWS, ROWS, KEYS, LANES)

        b_mean = tl.zeros((ROWS,), tl.float32)
        if CENTER == "mean":
            b_mean = passed_sum / counts
        elif CENTER == "min":
            b_mean = passed_sum / tl.load(saved_at + 4 * rows_of_all, mask=inside, other=1.0)
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
                _, b, _, _ = tile_gradients(
                    queries_t, keys_t, grads_t, values_t, keys_at, key_strides, values_at, value_strides, start, keys,
                    row, head, valid, of_query, change_of_pairs, of_head, bias, DIM, VALUE_DIM, ROWS, KEYS, LANES,
                    DIM_BLOCK, VALUE_BLOCK, IS_SIGNED, CENTER, WITH_DOT=False,
                )  # fmt: skip
            ds = tl.where(valid, less_mean(b, b_mean[None, :, None], CENTER) * (-factor * scale), 0.0)
            store_steps(ds, steps_t, ROWS, KEYS, LANES)
            tl.debug_barrier()
            total = add_signed(
                total, own, steps_t, keys_at, key_strides, start, keys, DIM, ROWS, KEYS, LANES, DIM_BLOCK
            )
        to_query = head_start(grad_query, grad_query_strides, batch, head)
        store_tile(total, to_query, grad_query_strides, first, queries, DIM, ROWS, DIM_BLOCK, LANES)
        means_at = grad_means + (batch * heads + head) * queries + row
        tl.store(means_at, b_mean, mask=inside)
        logs = log_length_reference * 0.6931471805599453 - tl.log(counts)
        tl.store(grad_scalars + block, tl.sum(distance_sum) * (-factor / tl.sqrt(DIM * 1.0)))
        tl.store(grad_scalars + blocks + block, tl.sum(dot_sum))
        tl.store(grad_scalars + 2 * blocks + block, -factor * tl.sum(passed_sum))
        tl.store(grad_scalars + 3 * blocks + block, factor * tl.sum(dot_sum * logs))
        if unit is not None:
            tl.store(means_at + rows_of_all, change, mask=inside)
            tl.store(grad_scalars + 4 * blocks + block, -tl.sum(along * z_sum) / tl.load(unit + head))


@triton.jit
def bwd_dkdv_kernel(
    query, key, value, gamma, eta, delta, key_norm, unit, score_bias, key_mask, attn_mask, grad, saved, grad_means,
    grad_key, grad_value, grad_key_norm, scratch,
    query_strides, key_strides, value_strides, score_bias_strides, key_mask_strides, attn_mask_strides, grad_strides,
    grad_key_strides, grad_value_strides, heads, groups, queries, keys, blocks, rows_of_all, scratch_size,
    DIM: tl.constexpr, VALUE_DIM: tl.constexpr, IS_CAUSAL: tl.constexpr, IS_SIGNED: tl.constexpr,
    CENTER: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr, LANES: tl.constexpr,
    DIM_BLOCK: tl.constexpr, VALUE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, and of the key norm a partial sum for each query head and block of keys. Here ROWS
    are keys and columns are queries, of every head that shares the keys."""
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
        key_sizes, size_total = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
        if key_norm is not None:
            tl.debug_barrier()
            key_sizes = sizes(keys_t, DIM, ROWS)
        first_query = tl.maximum(first - (keys - queries), 0) // QUERIES * QUERIES if IS_CAUSAL else 0
        last_query = tl.where(first < keys_in_use(keys, batch, key_mask, key_mask_strides), queries, 0)

        for member in range(groups):
            head = kv_head * groups + member
            of_head, factor = head_scalars(gamma, delta, key_norm, unit, head, DIM), tl.load(eta + head)
            scale, norm, unit_size = of_head[0], of_head[2], of_head[3]
            ds_sum = tl.zeros((ROWS,), tl.float32)
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
                distance, _ = distances(keys_t, queries_t, DIM, ROWS, QUERIES, LANES, WITH_SIZES=False)
                distance = less_key_norm(distance, key_sizes[None, :, None], norm)
                exists = start + column < queries
                mean = tl.load(saved + of_queries + start + column, mask=exists, other=0.0)
                b_mean = tl.load(grad_means + of_queries + start + column, mask=exists, other=0.0)
                valid = valid_pairs(start + column, row[None, :, None], batch, head, masks, queries, keys, IS_CAUSAL)
                offsets_at = saved + 3 * rows_of_all + of_queries + start + column
                offset, change = tl.load(offsets_at, mask=exists, other=0.0), 0.0
                if unit is not None:
                    change = tl.load(grad_means + rows_of_all + of_queries + start + column, mask=exists, other=0.0)
                z, averaged = inhibition(
                    distance, start + column, row[None, :, None], head, (mean, offset), of_head, bias, valid, CENTER
                )
                z = tl.where(valid, z, float("inf"))
                b, _ = passed_gradients(
                    z, values_t, grads_t, VALUE_DIM, ROWS, QUERIES, LANES, IS_SIGNED, VALUES_IN_ROWS=True,
                    WITH_DOT=False,
                )  # fmt: skip
                b = less_passed(b, z, change, unit_size)
                b = mark(tl.where(z > 0, b, 0.0), averaged, CENTER)
                ds = tl.where(valid, less_mean(b, b_mean, CENTER) * (-factor * scale), 0.0)
                if key_norm is not None:
                    ds_sum += sum_of_rows(ds)
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
            if key_norm is not None:
                size_total += norm * ds_sum
                # A key that no query sees may hold NaN.
                of_block = tl.sum(tl.where(ds_sum != 0.0, ds_sum * key_sizes, 0.0))
                tl.store(grad_key_norm + (batch * heads + head) * per_head + block % per_head, -of_block)
        if key_norm is not None:
            own = load_tile(key_at, key_strides, first, keys, DIM, ROWS, DIM_BLOCK, LANES)
            of_sizes = size_total[None, :, None]
            key_total -= tl.where(own > 0, of_sizes, tl.where(own < 0, -of_sizes, 0.0))
        to_key = head_start(grad_key, grad_key_strides, batch, kv_head)
        store_tile(key_total, to_key, grad_key_strides, first, keys, DIM, ROWS, DIM_BLOCK, LANES)
        to_value = head_start(grad_value, grad_value_strides, batch, kv_head)
        store_tile(value_total, to_value, grad_value_strides, first, keys, VALUE_DIM, ROWS, VALUE_BLOCK, LANES)
