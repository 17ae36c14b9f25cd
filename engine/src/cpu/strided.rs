//! Loops over tensors of any strides, by rows: the kernels see slices and steps, never a multi-index.

use super::parallel::for_chunks;
use super::pool::take;
use crate::Element;
use crate::layout::{Layout, collapse};

/// Several views of one shape, walked together in row-major order. The last (merged) dimension is a row.
pub(crate) struct Walk<const N: usize> {
    outer: Vec<usize>,
    strides: [Vec<usize>; N],
    offsets: [usize; N],
    row: usize,
    /// Step of each view inside a row.
    pub steps: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// All layouts must have the same shape.
    pub fn new(layouts: [Layout; N]) -> Self {
        let (mut outer, merged) = collapse(&layouts);
        let row = outer.pop().unwrap_or(1);
        let mut strides: [Vec<usize>; N] = std::array::from_fn(|i| merged.get(i).cloned().unwrap_or_default());
        let steps = std::array::from_fn(|i| strides[i].pop().unwrap_or(0));
        Walk { outer, strides, offsets: layouts.map(|l| l.offset), row, steps }
    }

    /// Length of the last merged dimension, and for the one before it its length and the stride of the first view.
    pub fn last_two(&self) -> (usize, Option<(usize, usize)>) {
        (self.row, self.outer.last().copied().zip(self.strides[0].last().copied()))
    }

    /// Visits elements `start..start + length` of the shape as pieces of rows: `f(done, bases, count)` with the elements visited
    /// before, each view's buffer index of the piece's first element, and the piece's length.
    pub fn pieces(&self, start: usize, length: usize, mut f: impl FnMut(usize, [usize; N], usize)) {
        if self.row == 0 || length == 0 {
            return;
        }
        let rank = self.outer.len();
        let (mut rest, mut column) = (start / self.row, start % self.row);
        let mut at = [0usize; crate::MAX_RANK];
        let mut bases = self.offsets;
        for d in (0..rank).rev() {
            at[d] = rest % self.outer[d];
            rest /= self.outer[d];
            for i in 0..N {
                bases[i] += at[d] * self.strides[i][d];
            }
        }
        let mut done = 0;
        while done < length {
            let count = (self.row - column).min(length - done);
            f(done, std::array::from_fn(|i| bases[i] + column * self.steps[i]), count);
            done += count;
            column = 0;
            for d in (0..rank).rev() {
                at[d] += 1;
                for i in 0..N {
                    bases[i] += self.strides[i][d];
                }
                if at[d] < self.outer[d] {
                    break;
                }
                for i in 0..N {
                    bases[i] -= at[d] * self.strides[i][d];
                }
                at[d] = 0;
            }
        }
    }

    /// A vector of `n` elements filled piece by piece by `f(piece, bases)`, on all cores if it is long.
    pub fn fill<O: Element>(&self, n: usize, f: impl Fn(&mut [O], [usize; N]) + Sync) -> Vec<O> {
        let mut out = take(n);
        for_chunks(&mut out, |start, chunk: &mut [O]| {
            let length = chunk.len();
            self.pieces(start, length, |done, bases, count| f(&mut chunk[done..done + count], bases));
        });
        out
    }
}

/// A loop that is compiled for the widest vector instructions of this machine; the bits are the same on each. `run` must be marked
/// `inline(always)`, as all that it calls, or it would be a call away from the code that it should be in.
pub(crate) trait Vectorised: Sized {
    type Output;
    fn run(self) -> Self::Output;

    #[inline(always)]
    fn dispatch(self) -> Self::Output {
        struct Loop<L>(L);
        impl<L: Vectorised> pulp::WithSimd for Loop<L> {
            type Output = L::Output;
            #[inline(always)]
            fn with_simd<S: pulp::Simd>(self, _: S) -> L::Output {
                self.0.run()
            }
        }
        pulp::Arch::new().dispatch(Loop(self))
    }
}

/// `y[i] = f(x[i])`.
pub(crate) fn map_each<T: Element, O: Element>(x: &[T], y: &mut [O], f: impl Fn(T) -> O) {
    struct Each<'a, T, O, F>(&'a [T], &'a mut [O], F);
    impl<T: Element, O: Element, F: Fn(T) -> O> Vectorised for Each<'_, T, O, F> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for (y, &x) in self.1.iter_mut().zip(self.0) {
                *y = (self.2)(x);
            }
        }
    }
    Each(x, y, f).dispatch();
}

/// `y[i] = f(a[i], b[i])`.
pub(crate) fn zip_each<A: Element, B: Element, O: Element>(a: &[A], b: &[B], y: &mut [O], f: impl Fn(A, B) -> O) {
    struct Each<'a, A, B, O, F>(&'a [A], &'a [B], &'a mut [O], F);
    impl<A: Element, B: Element, O: Element, F: Fn(A, B) -> O> Vectorised for Each<'_, A, B, O, F> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for ((y, &a), &b) in self.2.iter_mut().zip(self.0).zip(self.1) {
                *y = (self.3)(a, b);
            }
        }
    }
    Each(a, b, y, f).dispatch();
}
