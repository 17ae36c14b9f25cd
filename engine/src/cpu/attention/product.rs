//! Products of small matrices on one core.

use crate::cpu::Float;

/// A matrix of any strides in a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub start: usize,
    pub row: usize,
    pub column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Of rows without gaps.
    pub fn dense(data: &'a [T], columns: usize) -> Self {
        Matrix { data, start: 0, row: columns, column: 1 }
    }

    pub fn transposed(self) -> Self {
        Matrix { row: self.column, column: self.row, ..self }
    }

    /// The elements from the first to the last of so many rows and columns.
    fn extent(self, rows: usize, columns: usize) -> &'a [T] {
        let reach = (rows - 1) * self.row + (columns - 1) * self.column;
        &self.data[self.start..=self.start + reach]
    }
}

/// `out = factor a b`, or with `add` that much more: `a` [rows, depth], `b` [depth, columns], `out` [rows, columns] without gaps.
pub(super) fn product<T: Float>(
    out: &mut [T],
    [rows, columns, depth]: [usize; 3],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    factor: f64,
    add: bool,
) {
    if rows == 0 || columns == 0 || depth == 0 {
        return;
    }
    let out = &mut out[..rows * columns];
    let (left, right) = (a.extent(rows, depth), b.extent(depth, columns));
    // SAFETY: the slices reach from the first to the last element of each matrix, and `out` is borrowed mutably, so that it
    // overlaps with neither operand.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            add,
            left.as_ptr(),
            a.column as isize,
            a.row as isize,
            right.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::one(),
            T::of(factor),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
