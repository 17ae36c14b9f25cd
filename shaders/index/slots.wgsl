// Checks indices and turns them into slots: 1 + the flat position, in a row-major tensor with `strides`, of the element at the
// entry's own coordinates, except for dimension `dim`, where the index says.
//   slots[i] = 1 + sum over d of strides[d] * (d == dim ? index[i] : coordinate d of entry i)
// An index that is not below `size` is noted and clamped. index: any shape of up to 8 dimensions, u32 or i32.

const WORKGROUP: u32 = 64u;

alias I = u32;

struct Params {
    shape_low: vec4<u32>, // of the index
    shape_high: vec4<u32>,
    strides_low: vec4<u32>,
    strides_high: vec4<u32>,
    count: u32,
    offset: u32,
    dim: u32,
    size: u32,
    code: u32, // of the operation, for the note
    rank: u32, // of the index
    first: u32, // number of the first entry
    pad: u32,
}

@group(0) @binding(0) var<storage, read> index: array<I>;
@group(0) @binding(1) var<storage, read_write> slots: array<u32>;
@group(0) @binding(2) var<storage, read_write> fault: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

//#import common/fault.wgsl

fn pick(low: vec4<u32>, high: vec4<u32>, d: u32) -> u32 {
    return select(low[d & 3u], high[d & 3u], d > 3u);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let i = group * WORKGROUP + local;
    if (i < p.count) {
        // A negative i32 becomes a large u32.
        let value = u32(index[p.offset + i]);
        if (value >= p.size) {
            report_fault(p.code, value, p.size);
        }
        var slot = 1u;
        var rest = p.first + i;
        for (var step = 1u; step <= p.rank; step++) {
            let d = p.rank - step;
            let size = pick(p.shape_low, p.shape_high, d);
            let coordinate = select(rest % size, min(value, p.size - 1u), d == p.dim);
            slot += coordinate * pick(p.strides_low, p.strides_high, d);
            rest /= size;
        }
        slots[i] = slot;
    }
}
