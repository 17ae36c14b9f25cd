// Pieces that activation functions and their derivatives share. Nothing here overflows, whatever x.

//#import common/math.wgsl

// e^-|x|.
fn decay(x: V) -> V {
    return exp_(-abs(x));
}

fn sigmoid(x: V) -> V {
    let e = decay(x);
    return select(e, V(1.0), x >= V(0.0)) / (1.0 + e);
}

// Derivative of the sigmoid, without cancellation for large x.
fn sigmoid_slope(x: V) -> V {
    let e = decay(x);
    return e / ((1.0 + e) * (1.0 + e));
}

fn softplus(x: V) -> V {
    return select(x, V(0.0), x < V(0.0)) + ln_1p_(decay(x));
}

// u of gelu_tanh(x) = x sigmoid(u). Beyond 30 the sigmoid is 0 or 1.
fn gelu_tanh_argument(x: V) -> V {
    let y = clamp(x, V(-30.0), V(30.0));
    return 1.5957691216 * (y + 0.044715 * y * y * y);
}

fn gelu_tanh_argument_slope(x: V) -> V {
    let y = clamp(x, V(-30.0), V(30.0));
    return 1.5957691216 * (1.0 + 0.134145 * y * y);
}

// e^x, bounded: beyond 20, tanh(softplus(x)) is 1. With w = e^x (e^x + 2) it is w / (w + 2).
fn mish_exp(x: V) -> V {
    return exp_(select(x, V(20.0), x > V(20.0)));
}

// The activations without parameters by their numbers of engine/src/ops/elementwise/unary.rs; x itself for 0.
fn activation(number: u32, x: V) -> V {
    switch (number) {
        case 14u: { return tanh_(x); }
        case 15u: { return sigmoid(x); }
        case 16u: { return x * normal_cdf(x).cdf; } // gelu
        case 17u: { return x * sigmoid(gelu_tanh_argument(x)); }
        case 18u: { return x * sigmoid(1.702 * x); } // quick_gelu
        case 19u: { return x * sigmoid(x); } // silu
        case 20u: { return select(x, V(0.0), x < V(0.0)); } // relu
        case 21u: { return select(V(0.0), x * x, x > V(0.0)); } // relu_squared
        default: { return x; }
    }
}
