// common/fragments.wgsl without matrix units: an invocation has half a row of a sum, and that whole row of a left matrix; right matrices stay where
// they lie in workgroup memory until they are used. Subgroups are each 32 invocations in order, whatever the device's own are.

struct Right {
    at: u32,
    pitch: u32,
    of_rows: bool,
}

struct Sums {
    low: vec4<f32>,
    high: vec4<f32>,
}

alias Left = mat4x4<f32>;

var<private> lane: u32;

// What the products of a fragment sum over: sixteen, which a compiler that knew would unroll in each of them.
var<workgroup> depth: u32;

fn enter_subgroup(local: u32, subgroup: u32) -> u32 {
    lane = local % 32u;
    depth = 16u;
    return local / 32u;
}

fn wide_four(at: u32) -> vec4<f32> { return vec4<f32>(halves[at]); }

fn left_of_rows(at: u32, pitch: u32) -> Left {
    let line = at + lane / 2u * pitch;
    return Left(wide_four(line), wide_four(line + 1u), wide_four(line + 2u), wide_four(line + 3u));
}

fn left_of_columns(at: u32, pitch: u32) -> Left {
    var left = Left();
    for (var k = 0u; k < 16u; k++) {
        left[k / 4u][k % 4u] = wide_four(at + k * pitch + lane / 8u)[lane / 2u % 4u];
    }
    return left;
}

fn right_of_rows(at: u32, pitch: u32) -> Right { return Right(at, pitch, true); }
fn right_of_columns(at: u32, pitch: u32) -> Right { return Right(at, pitch, false); }

fn half_row(at: u32, pitch: u32) -> u32 { return at + lane / 2u * pitch + lane % 2u * 2u; }

fn sums_of(at: u32, pitch: u32) -> Sums {
    let line = half_row(at, pitch);
    return Sums(floats[line], floats[line + 1u]);
}

fn put(sums: Sums, at: u32, pitch: u32) {
    let line = half_row(at, pitch);
    floats[line] = sums.low;
    floats[line + 1u] = sums.high;
}

fn multiply_add(a: Left, b: Right, c: Sums) -> Sums {
    var rows = a;
    var sum = c;
    for (var k = 0u; k < depth; k++) {
        let x = rows[k / 4u][k % 4u];
        if (b.of_rows) {
            let line = b.at + k * b.pitch + lane % 2u * 2u;
            sum.low += x * wide_four(line);
            sum.high += x * wide_four(line + 1u);
        } else {
            let line = b.at + lane % 2u * 8u * b.pitch + k / 4u;
            let pitch = b.pitch;
            sum.low += x * vec4<f32>(one(line, k), one(line + pitch, k), one(line + 2u * pitch, k), one(line + 3u * pitch, k));
            sum.high += x
                * vec4<f32>(one(line + 4u * pitch, k), one(line + 5u * pitch, k), one(line + 6u * pitch, k), one(line + 7u * pitch, k));
        }
    }
    return sum;
}

fn one(line: u32, k: u32) -> f32 { return f32(halves[line][k % 4u]); }
