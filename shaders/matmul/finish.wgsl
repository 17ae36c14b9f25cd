// The second pass of a matrix product cut along k: c = activation(scale sum_slice partial[slice] + bias) + residual, in the order of the
// slices. Works on the flat result, four elements an invocation, so that it packs halves whatever the width of a row.

//#import common/product.wgsl

override WORKGROUP: u32 = 64u;

@group(0) @binding(4) var<storage, read> partial: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    // Slices are padded to whole fours, and so is the memory of c.
    if (4u * i < p.c_slice) {
        var v = partial[i];
        for (var slice = 1u; slice < p.slices; slice++) {
            v += partial[slice * (p.c_slice >> 2u) + i];
        }
        v *= p.scale;
        if (HAS_BIAS == 1u) {
            let column = (vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u)) % p.n + vec4<u32>(p.bias_start);
            v += vec4<f32>(load_bias(column.x), load_bias(column.y), load_bias(column.z), load_bias(column.w));
        }
        if (KEEP == 1u) {
            store4_z(i, v);
        }
        v = activation(ACTIVATION, v);
        if (HAS_RESIDUAL == 1u) {
            v += load4_residual((p.residual_start >> 2u) + i);
        }
        store4_c(i, v);
    }
}
