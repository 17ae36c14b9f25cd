// y = f(x), element by element, four at a time. OP is the number of engine/src/ops/elementwise/unary.rs.

//#import common/activation.wgsl

override OP: u32 = 0u;
override WORKGROUP: u32 = 256u;

struct Params {
    count: u32, // fours
    offset: u32, // of x, in fours
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load4_x(i: u32) -> vec4<f32> { return x[i]; }
fn store4_y(i: u32, v: vec4<f32>) { y[i] = v; }

fn value(x: V) -> V {
    let positive = x > V(0.0);
    switch (OP) {
        case 0u: { return p.a * x + p.b; } // affine
        case 1u: { return -x; }
        case 2u: { return abs(x); }
        case 3u: { return sign(x); }
        case 4u: { return exp_(x); }
        case 5u: { return expm1_(x); }
        case 6u: { return ln_(x); }
        case 7u: { return ln_1p_(x); }
        case 8u: { return sqrt(x); }
        case 9u: { return 1.0 / sqrt(x); }
        case 10u: { return 1.0 / x; }
        case 11u: { return x * x; }
        case 12u: { return sin_of(x, 0); }
        case 13u: { return sin_of(x, 1); } // cosine
        case 22u: { return select(p.a * x, x, positive); } // leaky_relu
        case 23u: { return select(p.a * expm1_(x), x, positive); } // elu
        case 24u: { return softplus(x); }
        case 25u: { return -softplus(-x); } // log_sigmoid
        case 26u: { return erf_(x); }
        case 27u: { return floor(x); }
        case 28u: { return ceil(x); }
        case 29u: { return round(x); }
        case 30u: { return x * (clamp(x + 3.0, V(0.0), V(6.0)) / 6.0); } // hard_swish
        case 31u: { // mish
            let e = mish_exp(x);
            let w = e * (e + 2.0);
            return x * (w / (w + 2.0));
        }
        case 32u: { return select(select(x, V(p.a), x < V(p.a)), V(p.b), x > V(p.b)); } // clamp
        case 33u: { return pow_(x, V(p.a)); }
        default: { return activation(OP, x); }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (wg.x + wg.y * nwg.x) * WORKGROUP + local;
    if (i < p.count) {
        store4_y(i, value(load4_x(p.offset + i)));
    }
}
