// A choice among the six patterns 1100, 1010, 1001, 0110, 0101, 0011 of a group of four weights (Fang et al. 2024):
//
//     y = softmax((scale gates + g) / temperature),   mask[c] = sum of y over the patterns that keep column c
//
// with Gumbel noise g of a draw of the device, element 6 group + i of it: engine/src/cpu/patterns.rs is the same.

//#import common/exp.wgsl
//#import common/philox.wgsl
//#import common/exponential.wgsl

override NOISE: bool = false;
override HARD: bool = false;

struct Params {
    count: u32, // groups
    first: u32, // which group of the draw is the first of these
    gates_offset: u32,
    weight_offset: u32, // in fours
    seed_low: u32,
    seed_high: u32,
    draw_low: u32,
    draw_high: u32,
    steep: f32, // scale / temperature
    spread: f32, // 1 / temperature
    masked_offset: u32, // of the gradients, in fours
    mask_offset: u32,
}

@group(0) @binding(0) var<storage, read> gates: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

fn load_gates(i: u32) -> f32 { return gates[i]; }
fn load4_weight(i: u32) -> vec4<f32> { return weight[i]; }

// Six numbers, one of each pattern.
struct Six {
    low: vec4<f32>,
    high: vec4<f32>, // two of them; the others are 0
}

fn noise_pair(number: u32) -> vec2<f32> {
    let words = philox(vec4<u32>(number, 0u, p.draw_low, p.draw_high), vec2<u32>(p.seed_low, p.seed_high));
    return vec2<f32>(-log(exponential(words.x, words.y)), -log(exponential(words.z, words.w)));
}

fn probabilities(group: u32) -> Six {
    let at = p.gates_offset + 6u * group;
    var low = p.steep * vec4<f32>(load_gates(at), load_gates(at + 1u), load_gates(at + 2u), load_gates(at + 3u));
    var high = p.steep * vec2<f32>(load_gates(at + 4u), load_gates(at + 5u));
    if (NOISE) {
        let block = 3u * (p.first + group);
        low += p.spread * vec4<f32>(noise_pair(block), noise_pair(block + 1u));
        high += p.spread * noise_pair(block + 2u);
    }
    let most = max(max(max(low.x, low.y), max(low.z, low.w)), max(high.x, high.y));
    let powers = exp_below(low - most);
    let others = vec4<f32>(exp_below(vec4<f32>(high - most, -100.0, -100.0)).xy, 0.0, 0.0);
    let total = (powers.x + powers.y) + (powers.z + powers.w) + (others.x + others.y);
    return Six(powers / total, others / total);
}

// The likeliest pattern alone, the first of equally likely ones.
fn likeliest(y: Six) -> Six {
    let most = max(max(max(y.low.x, y.low.y), max(y.low.z, y.low.w)), max(y.high.x, y.high.y));
    var one = Six(vec4<f32>(), vec4<f32>());
    if (y.low.x == most) { one.low.x = 1.0; }
    else if (y.low.y == most) { one.low.y = 1.0; }
    else if (y.low.z == most) { one.low.z = 1.0; }
    else if (y.low.w == most) { one.low.w = 1.0; }
    else if (y.high.x == most) { one.high.x = 1.0; }
    else { one.high.y = 1.0; }
    return one;
}
