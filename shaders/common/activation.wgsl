// Pieces that activation functions and their derivatives share. Nothing here overflows, whatever x.

//#import common/math.wgsl

override OP: u32 = 0u; // which function, in common/unary.wgsl and common/unary_grad.wgsl

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
