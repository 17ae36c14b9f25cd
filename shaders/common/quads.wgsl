// Rows read and written four elements at a time. Rows of results begin at multiples of four elements, so that whole fours can
// be stored; the file that imports this has `p.cols` and reads through functions that load a four of a row.

override TAIL: bool = false; // cols is not a multiple of four: the last four of a row is not whole

// Which elements of the k-th four of a row exist.
fn inside(k: u32) -> vec4<bool> {
    return vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.cols);
}

// The four, with zeros past the end of the row.
fn kept(v: vec4<f32>, k: u32) -> vec4<f32> {
    if (TAIL) { return select(vec4<f32>(0.0), v, inside(k)); }
    return v;
}

// The indices of the k-th four of the row that begins at `start`, none past its end.
fn four_of(start: u32, k: u32) -> vec4<u32> {
    return vec4<u32>(start) + min(vec4<u32>(4u * k) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.cols - 1u));
}

fn added(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn highest_of(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
