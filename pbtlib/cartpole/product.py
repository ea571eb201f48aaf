r"""The product of small matrices, which is what training a DQN agent costs.

A general library copies its operands into buffers first; for 64 × 64 matrices that takes as long as half the product.
Here a tile of 6 × 16 entries stays in the processor's registers while the sums run, as in every fast product; rows that
are left over make a lower one. Each entry is one sum in the order of its terms, by fused multiply-add where the
processor has that, so neither the width of its registers nor the number of rows changes a bit.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from pbtlib.normals import COMPILE

__all__ = ["WIDTH", "product"]

WIDTH = 16
"""Columns of a tile; the second factor of `product` must have a multiple of them."""

FLOAT, VECTOR = ir.FloatType(), ir.VectorType(ir.FloatType(), WIDTH)


def _tile(rows: int) -> Any:
    """Make the function ``tile(A, B, C, i, j)``: C[i:i+rows, j:j+WIDTH] = A[i:i+rows]·B[:, j:j+WIDTH]."""

    @intrinsic
    def tile(context, A, B, C, i, j):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            a, b, c = (
                context.make_array(kind)(context, builder, value)
                for kind, value in zip(signature.args[:3], arguments[:3], strict=True)
            )
            i, j = arguments[3:]

            def address(array: Any, row: Any, column: Any, kind: Any) -> Any:
                down, right = cgutils.unpack_tuple(builder, array.strides)
                offset = builder.add(builder.mul(row, down), builder.mul(column, right))
                return builder.bitcast(cgutils.pointer_add(builder, array.data, offset), kind.as_pointer())

            multiply_add = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fmuladd.v{WIDTH}f32"
            )
            numbers = [builder.add(i, i.type(row)) for row in range(rows)]
            sums = [cgutils.alloca_once_value(builder, VECTOR([0.0] * WIDTH)) for _ in numbers]
            with cgutils.for_range(builder, cgutils.unpack_tuple(builder, a.shape)[1]) as loop:
                right_factor = builder.load(address(b, loop.index, j, VECTOR), align=4)
                for number, total in zip(numbers, sums, strict=True):
                    entry = builder.load(address(a, number, loop.index, FLOAT))
                    first = builder.insert_element(VECTOR(ir.Undefined), entry, ir.IntType(32)(0))
                    everywhere = ir.VectorType(ir.IntType(32), WIDTH)([0] * WIDTH)
                    left_factor = builder.shuffle_vector(first, first, everywhere)
                    terms = [left_factor, right_factor, builder.load(total)]
                    builder.store(builder.call(multiply_add, terms), total)
            for number, total in zip(numbers, sums, strict=True):
                builder.store(builder.load(total), address(c, number, j, VECTOR), align=4)
            return context.get_dummy_value()

        return types.void(A, B, C, types.intp, types.intp), generate

    return tile


_one, _two, _three, _four, _five, _six = (_tile(rows) for rows in range(1, 7))


@numba.njit(nogil=True, cache=COMPILE["cache"], error_model="numpy")
def product(A, B, C):  # type: ignore[no-untyped-def]
    """Write A·B into C: float32 matrices, B and C with contiguous rows and a multiple of `WIDTH` columns.

    Shapes are not checked: this is the innermost loop of `pbtlib.cartpole.population`.
    """
    left = len(C) % 6
    last = len(C) - left
    for j in range(0, C.shape[1], WIDTH):
        for i in range(0, last, 6):
            _six(A, B, C, i, j)
        if left == 1:
            _one(A, B, C, last, j)
        elif left == 2:
            _two(A, B, C, last, j)
        elif left == 3:
            _three(A, B, C, last, j)
        elif left == 4:
            _four(A, B, C, last, j)
        elif left == 5:
            _five(A, B, C, last, j)
