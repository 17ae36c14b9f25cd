// y[r, c] = the parts side by side: x0[r, c] for c below end_0, x1[r, c - end_0] for c below end_1, and so on.
// Part k: [outer, width k]; y: [outer, total]. Up to seven parts, the rest bound to the first. Each invocation writes four elements.

const WORKGROUP: u32 = 64u;

alias T = f32;

struct Params {
    count: u32, // elements of y
    total: u32,
    end_0: u32, // where part 0 ends in a row
    end_1: u32,
    end_2: u32,
    end_3: u32,
    end_4: u32,
    end_5: u32,
    end_6: u32,
    offset_0: u32,
    offset_1: u32,
    offset_2: u32,
    offset_3: u32,
    offset_4: u32,
    offset_5: u32,
    offset_6: u32,
}

@group(0) @binding(0) var<storage, read> x0: array<T>;
@group(0) @binding(1) var<storage, read> x1: array<T>;
@group(0) @binding(2) var<storage, read> x2: array<T>;
@group(0) @binding(3) var<storage, read> x3: array<T>;
@group(0) @binding(4) var<storage, read> x4: array<T>;
@group(0) @binding(5) var<storage, read> x5: array<T>;
@group(0) @binding(6) var<storage, read> x6: array<T>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4<T>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_x0(i: u32) -> T { return x0[i]; }
fn load_x1(i: u32) -> T { return x1[i]; }
fn load_x2(i: u32) -> T { return x2[i]; }
fn load_x3(i: u32) -> T { return x3[i]; }
fn load_x4(i: u32) -> T { return x4[i]; }
fn load_x5(i: u32) -> T { return x5[i]; }
fn load_x6(i: u32) -> T { return x6[i]; }
fn store4_y(i: u32, v: vec4<T>) { y[i] = v; }

fn element(i: u32) -> T {
    let row = i / p.total;
    let column = i % p.total;
    if (column < p.end_0) {
        return load_x0(p.offset_0 + row * p.end_0 + column);
    }
    if (column < p.end_1) {
        return load_x1(p.offset_1 + row * (p.end_1 - p.end_0) + column - p.end_0);
    }
    if (column < p.end_2) {
        return load_x2(p.offset_2 + row * (p.end_2 - p.end_1) + column - p.end_1);
    }
    if (column < p.end_3) {
        return load_x3(p.offset_3 + row * (p.end_3 - p.end_2) + column - p.end_2);
    }
    if (column < p.end_4) {
        return load_x4(p.offset_4 + row * (p.end_4 - p.end_3) + column - p.end_3);
    }
    if (column < p.end_5) {
        return load_x5(p.offset_5 + row * (p.end_5 - p.end_4) + column - p.end_4);
    }
    return load_x6(p.offset_6 + row * (p.end_6 - p.end_5) + column - p.end_5);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = wg.x + wg.y * nwg.x;
    let quad = group * WORKGROUP + local;
    if (4u * quad < p.count) {
        var out = vec4<T>(T(0));
        for (var lane = 0u; lane < 4u; lane++) {
            if (4u * quad + lane < p.count) {
                out[lane] = element(4u * quad + lane);
            }
        }
        store4_y(quad, out);
    }
}
