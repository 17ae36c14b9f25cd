// Sums and maxima over the LANES neighbouring invocations that work on one row. Every invocation of the workgroup must call
// them, and gets its row's result. They end with a barrier, so that calls can follow each other.
// Needs the override constants WORKGROUP (at most 256) and LANES (a power of two that divides it).

var<workgroup> row_parts: array<f32, 256>;

fn row_sum(v: f32, local: u32) -> f32 {
    if (LANES == 1u) { return v; }
    row_parts[local] = v;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local % LANES < half) {
            row_parts[local] += row_parts[local + half];
        }
    }
    workgroupBarrier();
    let total = row_parts[local - local % LANES];
    workgroupBarrier();
    return total;
}

fn row_max(v: f32, local: u32) -> f32 {
    if (LANES == 1u) { return v; }
    row_parts[local] = v;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local % LANES < half) {
            row_parts[local] = max(row_parts[local], row_parts[local + half]);
        }
    }
    workgroupBarrier();
    let highest = row_parts[local - local % LANES];
    workgroupBarrier();
    return highest;
}
