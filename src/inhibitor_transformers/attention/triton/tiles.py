"""Device functions that the kernels share: tiles of pairs, and the scratch memory that loops walk through.

A tile of R rows and C columns has the shape (C / LANES, R, LANES); column c is [c // LANES, :, c % LANES]. Triton deals
the last dimension to neighboring threads and the middle one to the remaining threads and warps, and leaves the first
within a thread. So every thread holds a rectangle of the tile and reads one number for each of its rows and columns
where a plain (R, C) tile would give it a single column, and one number to read for every pair.

Triton cannot take a column out of a tile that is in registers. What a loop walks through lies in scratch memory of the
program's own, [step, row]: small enough for the first-level cache. Whoever writes there puts barriers around it.

All arithmetic is float32, whatever the inputs are.
"""

from __future__ import annotations

import triton
import triton.language as tl

UNROLL = tl.constexpr(4)  # steps of a loop whose loads are issued together
_ALL = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def columns(COLUMNS: tl.constexpr, LANES: tl.constexpr):
    """Numbers of a tile's columns, (COLUMNS / LANES, LANES)."""
    return tl.arange(0, COLUMNS // LANES)[:, None] * LANES + tl.arange(0, LANES)[None, :]


@triton.jit
def int64(number):
    """An index that may grow beyond 31 bits once it is multiplied by a stride."""
    return tl.full((), 0, tl.int64) + number


@triton.jit
def head_start(pointer, strides, batch, head):
    """Where the rows of one head begin."""
    return pointer + batch * strides[0] + head * strides[1]


@triton.jit
def store_transposed(
    to, rows_at, strides, first, rows, factor, FEATURES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """to[feature, row] = factor[row] · rows_at[first + row, feature]; zero beyond the `rows` that there are."""
    row, feature = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    inside = ((first + row) < rows)[:, None] & (feature < FEATURES)[None, :]
    offsets = int64(first + row)[:, None] * strides[2] + int64(feature)[None, :] * strides[3]
    x = tl.load(rows_at + offsets, mask=inside, other=0.0).to(tl.float32)
    tl.store(to + feature[None, :] * ROWS + row[:, None], x * factor[:, None])


@triton.jit
def load_tile(
    rows_at, strides, first, rows, FEATURES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr
):
    """Rows as a tile whose columns are the features: (BLOCK / LANES, ROWS, LANES) in float32, zero outside."""
    row, column = int64(first + tl.arange(0, ROWS))[None, :, None], columns(BLOCK, LANES)[:, None, :]
    inside = (row < rows) & (column < FEATURES)
    return tl.load(rows_at + row * strides[2] + column * strides[3], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def store_rows(
    to, rows_at, strides, first, rows, factor, batch, mask, mask_strides, FEATURES: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """to[row, feature] = factor[row] · rows_at[first + row, feature]; zero beyond the `rows` and where masked."""
    row, feature = tl.arange(0, ROWS), tl.arange(0, BLOCK)
    counts = (first + row) < rows
    if mask is not None:
        at = mask + batch * mask_strides[0] + int64(first + row) * mask_strides[1]
        counts = counts & (tl.load(at, mask=counts, other=0) != 0)
    offsets = int64(first + row)[:, None] * strides[2] + int64(feature)[None, :] * strides[3]
    x = tl.load(rows_at + offsets, mask=counts[:, None] & (feature < FEATURES)[None, :], other=0.0)
    tl.store(to + row[:, None] * BLOCK + feature[None, :], x.to(tl.float32) * factor[:, None])


@triton.jit
def load_rows(at, ROWS: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """What `store_rows` stored, as a tile whose columns are the features."""
    return tl.load(at + tl.arange(0, ROWS)[None, :, None] * BLOCK + columns(BLOCK, LANES)[:, None, :])


@triton.jit
def store_tile(
    tile, to, strides, first, rows, FEATURES: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr
):
    """The reverse of `load_tile`, in the dtype of `to`."""
    row, column = int64(first + tl.arange(0, ROWS))[None, :, None], columns(BLOCK, LANES)[:, None, :]
    inside = (row < rows) & (column < FEATURES)
    tl.store(to + row * strides[2] + column * strides[3], tile.to(to.dtype.element_ty), mask=inside)


@triton.jit
def store_steps(tile, to, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr):
    """to[column, row] = tile: a loop over columns then reads rows that lie side by side."""
    tl.store(to + columns(COLUMNS, LANES)[:, None, :] * ROWS + tl.arange(0, ROWS)[None, :, None], tile)


@triton.jit
def load_steps(at, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr):
    """The reverse of `store_steps`."""
    return tl.load(at + columns(COLUMNS, LANES)[:, None, :] * ROWS + tl.arange(0, ROWS)[None, :, None])


@triton.jit
def sum_of_rows(tile):
    """Σ over the columns of a tile, (R,): first within threads, then across them."""
    return tl.sum(tl.sum(tile, axis=0), axis=1)


@triton.jit
def valid_pairs(query, key, batch, head, masks, queries, keys, IS_CAUSAL: tl.constexpr):
    """Which pairs count, for `query` and `key` numbers that broadcast against each other; `masks`: the key mask, the
    attention mask (or None) and the strides of both."""
    key_mask, attn_mask, key_mask_strides, attn_mask_strides = masks
    valid = (query < queries) & (key < keys)
    if IS_CAUSAL:
        valid = valid & (key <= query + (keys - queries))
    if key_mask is not None:
        at = key_mask + batch * key_mask_strides[0] + int64(key) * key_mask_strides[1]
        valid = valid & (tl.load(at, mask=key < keys, other=0) != 0)
    if attn_mask is not None:
        at = head_start(attn_mask, attn_mask_strides, batch, head)
        at += int64(query) * attn_mask_strides[2] + int64(key) * attn_mask_strides[3]
        valid = valid & (tl.load(at, mask=valid, other=0) != 0)
    return valid


@triton.jit
def keys_in_use(keys, batch, key_mask, key_mask_strides, BLOCK: tl.constexpr = 256):
    """Keys from this number on are padding."""
    last = keys
    if key_mask is not None:
        last = 0
        for start in range(0, keys, BLOCK):
            key = start + tl.arange(0, BLOCK)
            at = key_mask + batch * key_mask_strides[0] + int64(key) * key_mask_strides[1]
            last = tl.maximum(last, tl.max(tl.where(tl.load(at, mask=key < keys, other=0) != 0, key + 1, 0)))
    return last


@triton.jit
def keys_to_visit(
    first_query, queries, keys, batch, key_mask, key_mask_strides, ROWS: tl.constexpr, IS_CAUSAL: tl.constexpr
):
    """Keys from this number on count for none of the ROWS queries."""
    last = keys_in_use(keys, batch, key_mask, key_mask_strides)
    if IS_CAUSAL:
        last = tl.maximum(tl.minimum(last, first_query + ROWS + keys - queries), 0)
    return last


@triton.jit
def distances(
    rows_t, columns_t, DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
    WITH_SIZES: tl.constexpr,
):  # fmt: skip
    """Σ_d |row_d − column_d| from transposed rows and columns, two additions for an element, and (WITH_SIZES)
    Σ_d |column_d|."""
    row, column = tl.arange(0, ROWS), columns(COLUMNS, LANES)
    total = tl.zeros((COLUMNS // LANES, ROWS, LANES), tl.float32)
    column_sizes = tl.zeros((COLUMNS // LANES, 1, LANES), tl.float32)
    for d in tl.range(0, DIM, loop_unroll_factor=UNROLL):
        a = tl.load(rows_t + d * ROWS + row)[None, :, None]
        b = tl.load(columns_t + d * COLUMNS + column)[:, None, :]
        total += tl.abs(a - b)
        if WITH_SIZES:
            column_sizes += tl.abs(b)
    return total, column_sizes


@triton.jit
def sizes(rows_t, DIM: tl.constexpr, ROWS: tl.constexpr):
    """Σ_d |row_d| from transposed rows, (ROWS,), added up in the order of `distances`."""
    total = tl.zeros((ROWS,), tl.float32)
    for d in tl.range(0, DIM, loop_unroll_factor=UNROLL):
        total += tl.abs(tl.load(rows_t + d * ROWS + tl.arange(0, ROWS)))
    return total


@triton.jit
def key_distances(
    queries_t, keys_t, keys_at, strides, first, keys, key_norm, DIM: tl.constexpr, ROWS: tl.constexpr,
    KEYS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Distances, less what `key_norm` takes off, of the queries that lie in `queries_t` to a tile of keys, which goes
    to `keys_t` first."""
    tl.debug_barrier()  # the last tile has been read
    store_transposed(keys_t, keys_at, strides, first, keys, tl.full((KEYS,), 1.0, tl.float32), DIM, KEYS, BLOCK)
    tl.debug_barrier()
    distance, key_sizes = distances(queries_t, keys_t, DIM, ROWS, KEYS, LANES, WITH_SIZES=key_norm is not None)
    return less_key_norm(distance, key_sizes, key_norm)


@triton.jit
def less_key_norm(distance, key_sizes, key_norm):
    """distance − λ Σ_d |k_d|, rounded once wherever it is computed; λ may be None."""
    return distance if key_norm is None else tl.fma(-key_norm, key_sizes, distance)


@triton.jit
def add_shrunk(
    total, value_sum, z_t, values, keys, ROWS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    IS_SIGNED: tl.constexpr, BY_PAIR: tl.constexpr,
):  # fmt: skip
    """Adds values[key, feature] shrunk by z_t[key, row], over the first `keys` of both. z of a pair that does not count
    is +inf (BY_PAIR) or anything finite (otherwise: the key counts for no row, and its value is zero).

    Signed sums of whole keys come as Σv − Σ sign(v)·min(|v|, z), `value_sum` and minus `total`: a minimum and a
    multiply-add for an element, where max(|v| − z, 0) costs three instructions. Pairs have no sum of their own.
    """
    row, column = tl.arange(0, ROWS), columns(BLOCK, LANES)
    for j in tl.range(0, keys, loop_unroll_factor=UNROLL):
        v = tl.load(values + j * BLOCK + column)
        z = tl.load(z_t + j * ROWS + row)[None, :, None]
        size, sign = tl.abs(v)[:, None, :], tl.where(v < 0, -1.0, 1.0)[:, None, :]
        if IS_SIGNED and not BY_PAIR:
            value_sum += v
            total -= sign * tl.minimum(size, z, propagate_nan=_ALL)
        else:
            if IS_SIGNED:
                kept = sign * tl.maximum(size - z, 0.0, propagate_nan=_ALL)
            else:
                kept = tl.maximum(v[:, None, :] - z, 0.0, propagate_nan=_ALL)
            # An invalid pair's value may be NaN, and counts for other rows.
            total += tl.where(z != float("inf"), kept, 0.0) if BY_PAIR else kept
    return total, value_sum


@triton.jit
def passed_gradients(
    z, rows_t, columns_t, VALUE_DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LANES: tl.constexpr,
    IS_SIGNED: tl.constexpr, VALUES_IN_ROWS: tl.constexpr, WITH_DOT: tl.constexpr,
):  # fmt: skip
    """For a tile z of pairs, from transposed values and gradients of the output: Σ_k g_k sign(v_k), minus the gradient
    of Z, and (WITH_DOT) Σ_k g_k v_k, both over the k that pass: |v_k| > z signed, v_k > z unsigned."""
    row, column = tl.arange(0, ROWS), columns(COLUMNS, LANES)
    passed = tl.zeros((COLUMNS // LANES, ROWS, LANES), tl.float32)
    dot = tl.zeros((COLUMNS // LANES, ROWS, LANES), tl.float32)
    for k in tl.range(0, VALUE_DIM, loop_unroll_factor=UNROLL):
        of_row = tl.load(rows_t + k * ROWS + row)[None, :, None]
        of_column = tl.load(columns_t + k * COLUMNS + column)[:, None, :]
        if VALUES_IN_ROWS:
            v, g = of_row, of_column
        else:
            v, g = of_column, of_row
        if IS_SIGNED:
            passes = tl.abs(v) > z
            passed = tl.where(passes, passed + g * tl.where(v < 0, -1.0, 1.0), passed)
        else:
            passes = v > z
            passed = tl.where(passes, passed + g, passed)
        if WITH_DOT:
            dot = tl.where(passes, dot + g * v, dot)
    return passed, dot


@triton.jit
def add_signed(
    total, own, steps_t, others_at, strides, first, others, DIM: tl.constexpr, ROWS: tl.constexpr,
    STEPS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """total += Σ_j steps_t[j, row] · sign(own − other_j); a tie adds nothing."""
    row, column = tl.arange(0, ROWS), columns(BLOCK, LANES)
    for j in tl.range(0, tl.minimum(STEPS, others - first), loop_unroll_factor=UNROLL):
        at = others_at + int64(first + j) * strides[2] + column * strides[3]
        other = tl.load(at, mask=column < DIM, other=0.0).to(tl.float32)[:, None, :]
        step = tl.load(steps_t + j * ROWS + row)[None, :, None]
        total = tl.where(own > other, total + step, total)
        total = tl.where(own < other, total - step, total)
    return total


@triton.jit
def add_value_gradients(
    total, values, z_t, gradients, queries, ROWS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
    IS_SIGNED: tl.constexpr,
):  # fmt: skip
    """total += Σ_i gradients[i, feature] where the value passes z_t[i, row], over the first `queries` of both."""
    row, column = tl.arange(0, ROWS), columns(BLOCK, LANES)
    size = tl.abs(values) if IS_SIGNED else values
    for i in tl.range(0, queries, loop_unroll_factor=UNROLL):
        g = tl.load(gradients + i * BLOCK + column)[:, None, :]
        z = tl.load(z_t + i * ROWS + row)[None, :, None]
        total = tl.where(size > z, total + g, total)
    return total
