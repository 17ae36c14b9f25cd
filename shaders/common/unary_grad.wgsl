// Gradients of functions of one element: d f'(x). OP as in common/unary.wgsl; affine, neg and the step functions never come here.

//#import common/activation.wgsl

fn gradient(x: V, d: V) -> V {
    let zero = V(0.0);
    let positive = x > zero;
    switch (OP) {
        case 2u: { return d * sign(x); } // abs
        case 4u, 5u: { return d * exp_(x); } // exp, expm1
        case 6u: { return d / x; } // log
        case 7u: { return d / (1.0 + x); } // log1p
        case 8u: { return d / (2.0 * sqrt(x)); }
        case 9u: { return -0.5 * d / (x * sqrt(x)); } // rsqrt
        case 10u: { return -d / x / x; } // reciprocal
        case 11u: { return 2.0 * x * d; } // square
        case 12u: { return d * sin_of(x, 1); } // sin
        case 13u: { return -d * sin_of(x, 0); } // cos
        case 14u: { return d * 4.0 * sigmoid_slope(2.0 * x); } // tanh
        case 15u: { return d * sigmoid_slope(x); }
        case 16u: { // gelu
            let n = normal_cdf(x);
            return d * (n.cdf + x * n.gauss * 0.3989422804);
        }
        case 17u: { // gelu_tanh
            let u = gelu_tanh_argument(x);
            return d * (sigmoid(u) + x * sigmoid_slope(u) * gelu_tanh_argument_slope(x));
        }
        case 18u: { return d * (sigmoid(1.702 * x) + 1.702 * x * sigmoid_slope(1.702 * x)); } // quick_gelu
        case 19u: { return d * (sigmoid(x) + x * sigmoid_slope(x)); } // silu
        case 20u: { return select(zero, d, positive); } // relu
        case 21u: { return select(zero, 2.0 * x * d, positive); } // relu_squared
        case 22u: { return select(p.a * d, d, positive); } // leaky_relu
        case 23u: { return d * select(p.a * decay(x), V(1.0), positive); } // elu
        case 24u: { return d * sigmoid(x); } // softplus
        case 25u: { return d * sigmoid(-x); } // log_sigmoid
        case 26u: { // erf: (e^(-x^2/2))^2 keeps its digits for large x
            let gauss = normal_cdf(x).gauss;
            return d * gauss * gauss * 1.1283791671;
        }
        case 30u: { return d * select(select(x / 3.0 + 0.5, V(1.0), x >= V(3.0)), zero, x <= V(-3.0)); } // hard_swish
        case 31u: { // mish
            let e = mish_exp(x);
            let below = e * (e + 2.0) + 2.0;
            let bent = select(x, V(20.0), x > V(20.0));
            return d * ((below - 2.0) / below + bent * (4.0 * (e / below) * ((e + 1.0) / below)));
        }
        case 32u: { return select(zero, d, (x > V(p.a)) & (x < V(p.b))); } // clamp
        case 33u: { return d * p.a * pow_(x, V(p.a - 1.0)); }
        default: { return zero; }
    }
}
