//! Which kernel for which product on which device: a table over shapes and limits, so that the same product runs the same way each time.

use std::cell::Cell;

use super::params::Params;
use crate::device::gpu::Caps;

/// The kernels for matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatmulFamily {
    /// `matmul/naive`: the formula; never chosen.
    Naive,
    /// `matmul/lanes`: for software drivers with subgroups.
    Lanes,
    /// `matmul/direct`: for software drivers without.
    Direct,
    /// `matmul/skinny`: few rows, or few columns, against a matrix that lies along the others.
    Skinny,
    /// `matmul/dot`: few rows, or few columns, against a matrix that lies along k.
    Dot,
    /// `matmul/tile` with tiles of 32 x 32.
    Small,
    /// `matmul/tile` with tiles of 64 x 64.
    Medium,
    /// `matmul/tile` with tiles of 128 x 128.
    Large,
    /// `matmul/coop`: f16 on matrix units, with tiles of 64 x 64.
    Coop,
    /// `matmul/coop_large`: the same with tiles of 128 x 128.
    CoopLarge,
}

use MatmulFamily as Family;

impl Family {
    pub(super) const ALL: [Family; 10] = [
        Family::Naive,
        Family::Lanes,
        Family::Direct,
        Family::Skinny,
        Family::Dot,
        Family::Small,
        Family::Medium,
        Family::Large,
        Family::Coop,
        Family::CoopLarge,
    ];

    /// Whether a device has what the kernel needs. Matrix units are also tested before they are used.
    pub(super) fn runs_on(self, caps: &Caps) -> bool {
        match self {
            Family::Lanes => lanes(caps).is_some(),
            Family::Coop => caps.coop,
            Family::CoopLarge => caps.coop && caps.max_workgroup_memory >= 32 << 10 && caps.max_invocations >= 256,
            _ => true,
        }
    }

    /// Whether b may be a packed 2:4 matrix.
    pub(super) fn takes_packed(self) -> bool {
        self.on_units() || matches!(self, Family::Small | Family::Medium | Family::Large)
    }

    /// Whether the operands have to be f16, and are read as such rather than as words of two.
    pub fn on_units(self) -> bool {
        matches!(self, Family::Coop | Family::CoopLarge)
    }
}

/// How to run a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub family: Family,
    /// As `c^T = b^T a^T`: for kernels where `a` is the small one.
    pub swapped: bool,
    /// Parts that k is cut into.
    pub slices: u32,
}

/// The kernel and the shape in which it runs.
pub(super) struct Shape {
    pub kernel: &'static str,
    /// Rows and columns of the result of one workgroup.
    pub rows: u32,
    pub columns: u32,
    pub constants: Vec<(&'static str, f64)>,
}

/// Rows, or columns, up to which a product is bound by reading the other matrix.
const FEW: u32 = 8;
/// As above, on a software driver.
const FEW_SOFTWARE: u32 = 4;
/// Workgroups that keep a large GPU busy.
const MANY_GROUPS: u64 = 128;
/// Workgroups that keep the cores under a software driver busy.
const MANY_GROUPS_SOFTWARE: u64 = 8;
/// The least k of a slice: below, the second pass costs more than idle cores.
const DEPTH: u32 = 256;
/// Bytes that the sums of all slices may take.
const WORKSPACE: u64 = 64 << 20;
/// Tiles below which matrix units are not worth their larger tiles (measured by others: 16 to 20).
const FEW_TILES: u64 = 20;

/// The size of all subgroups of a software driver, if `matmul/lanes` knows it.
fn lanes(caps: &Caps) -> Option<u32> {
    caps.software_lanes().filter(|size| matches!(size, 4 | 8))
}

/// The plan for a product; `halves` says that both operands are f16, `units` whether a family on matrix units passed its test.
pub(super) fn choose(caps: &Caps, p: &Params, halves: bool, units: impl Fn(Family) -> bool) -> Plan {
    let vector = if lanes(caps).is_some() { Family::Lanes } else { Family::Direct };
    let tiles = |side: u32| groups((side, side), p);
    let (few, many) = if caps.software { (FEW_SOFTWARE, MANY_GROUPS_SOFTWARE) } else { (FEW, MANY_GROUPS) };
    let (mut swapped, mut family) = (false, Family::Small);
    if p.m.min(p.n) <= few {
        swapped = p.n < p.m;
        let along_k = if swapped { p.access_a().along_k } else { p.access_b().along_k };
        family = match (along_k, caps.software) {
            (true, _) => Family::Dot,
            (false, true) => vector,
            (false, false) => Family::Skinny,
        };
    } else if caps.software {
        family = vector;
    } else if halves && tiles(128) >= many && units(Family::CoopLarge) {
        family = Family::CoopLarge;
    } else if halves && tiles(64) >= FEW_TILES && units(Family::Coop) {
        family = Family::Coop;
    } else if tiles(128) >= many {
        family = Family::Large;
    } else if tiles(64) >= many / 2 {
        family = Family::Medium;
    }
    let shape = shape(caps, family, &if swapped { p.transposed() } else { *p });
    let (rows, columns) = if swapped { (shape.columns, shape.rows) } else { (shape.rows, shape.columns) };
    let groups = groups((rows, columns), p);
    let slices = if groups < many { cut(p, many.div_ceil(groups.max(1))) } else { 1 };
    Plan { family, swapped, slices }
}

/// The number of slices nearest to `wanted` that are deep enough and whose sums fit into the workspace.
fn cut(p: &Params, wanted: u64) -> u32 {
    let fit = WORKSPACE / (4 * u64::from(p.c_slice)).max(1);
    let most = u64::from(p.k / DEPTH).min(fit).clamp(1, 64);
    wanted.clamp(1, most) as u32
}

/// Workgroups of one slice, of `rows` x `columns` results each.
pub(super) fn groups((rows, columns): (u32, u32), p: &Params) -> u64 {
    u64::from(p.batch) * u64::from(p.m.div_ceil(rows)) * u64::from(p.n.div_ceil(columns))
}

/// The kernel of a family for parameters that are already swapped where the plan says so.
pub(super) fn shape(caps: &Caps, family: Family, p: &Params) -> Shape {
    let one_row = if p.m == 1 { 1 } else { 4 };
    // Few rows leave registers for more columns.
    let rows = match p.m {
        1 => 1,
        2..=4 => 4,
        _ => 16,
    };
    let tile = |side: u32, depth: u32| ("matmul/tile", 8 * side, 8 * side, vec![("SIDE", side), ("DEPTH", depth)]);
    let (kernel, rows, columns, constants) = match family {
        Family::Naive => ("matmul/naive", 1, 256, vec![("LANES", 64)]),
        Family::Lanes => {
            let lanes = lanes(caps).unwrap_or(8);
            // A row of b is read in long pieces where there are enough of them: pages lie far apart down a column.
            let columns = match rows {
                1 if p.n >= 64 * lanes => 16,
                1 | 4 if p.n > 4 * lanes => 4,
                _ => 1,
            };
            let constants = vec![("LANES", lanes), ("ROWS", rows), ("COLUMNS", columns)];
            ("matmul/lanes", rows, 4 * lanes * columns, constants)
        }
        Family::Direct => ("matmul/direct", rows, 64, vec![("ROWS", rows)]),
        Family::Skinny => ("matmul/skinny", 4, 64, vec![("LANES_N", 16), ("LANES_K", 8), ("ROWS", one_row)]),
        Family::Dot => {
            let lanes = if caps.software { 8 } else { 64 };
            ("matmul/dot", 4, 4, vec![("LANES", lanes), ("ROWS", one_row)])
        }
        Family::Small => tile(4, 4),
        Family::Medium => tile(8, 8),
        Family::Large => tile(16, 8),
        Family::Coop => ("matmul/coop", 64, 64, Vec::new()),
        Family::CoopLarge => ("matmul/coop_large", 128, 128, Vec::new()),
    };
    let constants = constants.into_iter().map(|(name, value)| (name, f64::from(value))).collect();
    Shape { kernel, rows, columns, constants }
}

thread_local! {
    static FORCED: Cell<Option<(Family, u32)>> = const { Cell::new(None) };
}

/// Runs `f` with every matrix product of this thread on a GPU, forward and backward, by kernels of `family`, with k cut into
/// `slices` (at most; 1 for one pass). For tests and benchmarks; a product that the family cannot compute is an error.
pub fn force_matmul<R>(family: MatmulFamily, slices: u32, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<(Family, u32)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(Some((family, slices))));
    f()
}

/// The plan that [`force_matmul`] asks for.
pub(super) fn forced(p: &Params) -> Option<Plan> {
    let (family, slices) = FORCED.get()?;
    let swapped = matches!(family, Family::Skinny | Family::Dot) && p.n < p.m;
    Some(Plan { family, swapped, slices: slices.clamp(1, p.k.max(1)) })
}
