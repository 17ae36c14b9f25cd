// Running sums (with PRODUCT products) along each row of x [rows, cols]: y_k is the fold of x up to k, with EXCLUSIVE up to but
// without k, with REVERSE from the end on.
//
// LANES invocations work on one row, tile by tile; a tile is ITEMS neighbouring elements for each lane. Each lane folds its
// elements, the lanes' folds are scanned in workgroup memory, and each lane runs over its elements again from where its left
// neighbours ended. What a tile amounts to is carried to the next.

alias T = f32;

override WORKGROUP: u32 = 256u;
override LANES: u32 = 32u; // a power of two that divides WORKGROUP, which is at most 256
override ITEMS: u32 = 8u;
override PRODUCT: u32 = 0u;
override EXCLUSIVE: u32 = 0u;
override REVERSE: u32 = 0u;

struct Params {
    rows: u32,
    cols: u32,
    offset: u32,
}

@group(0) @binding(0) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read_write> y: array<T>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x(i: u32) -> T { return x[i]; }
fn store_y(i: u32, v: T) { y[i] = v; }

var<workgroup> parts: array<T, 256>;

fn join(a: T, b: T) -> T {
    if (PRODUCT != 0u) { return a * b; }
    return a + b;
}

fn place(k: u32) -> u32 {
    if (REVERSE != 0u) { return p.cols - 1u - k; }
    return k;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let lane = local % LANES;
    let row = group * (WORKGROUP / LANES) + local / LANES;
    let cols = select(0u, p.cols, row < p.rows);
    let none = T(PRODUCT);
    var carry = none;
    for (var tile = 0u; tile < p.cols; tile += LANES * ITEMS) {
        let start = tile + lane * ITEMS;
        let end = min(start + ITEMS, cols);
        var own = none;
        for (var k = start; k < end; k++) {
            own = join(own, load_x(p.offset + row * p.cols + place(k)));
        }
        // After the round of `reach`, a lane holds the fold of itself and the 2 reach - 1 lanes to its left.
        parts[local] = own;
        for (var reach = 1u; reach < LANES; reach *= 2u) {
            workgroupBarrier();
            var left = none;
            if (lane >= reach) { left = parts[local - reach]; }
            workgroupBarrier();
            parts[local] = join(left, parts[local]);
        }
        workgroupBarrier();
        var running = carry;
        if (lane > 0u) { running = join(carry, parts[local - 1u]); }
        carry = join(carry, parts[local - lane + LANES - 1u]);
        for (var k = start; k < end; k++) {
            let at = row * p.cols + place(k);
            let next = join(running, load_x(p.offset + at));
            if (EXCLUSIVE != 0u) { store_y(at, running); } else { store_y(at, next); }
            running = next;
        }
        workgroupBarrier();
    }
}
