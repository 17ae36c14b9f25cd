// Matrix units: products of fragments of 16 x 16 that a subgroup of 32 computes together, of halves with sums in f32. A fragment has no elements
// to speak of; it comes from workgroup memory and goes there. The file that imports this, before all else, declares
//
//   var<workgroup> halves: array<vec4<f16>, ..>;   var<workgroup> floats: array<vec4<f32>, ..>;
//
// in which a fragment lies from `at` on in lines of 16 numbers, `pitch` apart, both in fours. All subgroups of a workgroup execute the same
// operations in the same order; what differs is addresses.
//
// common/fragments_emulated.wgsl has the same functions for devices without matrix units, to test kernels there.

enable wgpu_cooperative_matrix;

alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;

// Every invocation calls this first. The number of its subgroup.
fn enter_subgroup(local: u32, subgroup: u32) -> u32 {
    return subgroup;
}

// Lines are rows: loaded with T, for row-major; or columns.
fn left_of_rows(at: u32, pitch: u32) -> Left { return coopLoadT<Left>(&halves[at], pitch); }
fn left_of_columns(at: u32, pitch: u32) -> Left { return coopLoad<Left>(&halves[at], pitch); }
fn right_of_rows(at: u32, pitch: u32) -> Right { return coopLoadT<Right>(&halves[at], pitch); }
fn right_of_columns(at: u32, pitch: u32) -> Right { return coopLoad<Right>(&halves[at], pitch); }
fn sums_of(at: u32, pitch: u32) -> Sums { return coopLoadT<Sums>(&floats[at], pitch); }

fn put(sums: Sums, at: u32, pitch: u32) {
    // naga wants the address of a store to have a name.
    let to = &floats[at];
    coopStoreT(sums, to, pitch);
}

// a b + c.
fn multiply_add(a: Left, b: Right, c: Sums) -> Sums {
    return coopMultiplyAdd(a, b, c);
}
